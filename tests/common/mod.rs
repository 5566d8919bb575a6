//! What the tests of several devices share.

use burn::tensor::Device;
use std::sync::OnceLock;

/// A GPU: in a build with CUDA an NVIDIA one, if there is one; else the first WGPU device, software too. Without one the test is
/// skipped and says so, unless `ARL_EXPECT_WGPU` is set.
pub fn gpu() -> Option<Device> {
    #[cfg(feature = "cuda")]
    {
        let found = Device::enumerate(burn::tensor::DeviceType::Cuda);
        if !found.into_vec().is_empty() {
            return Some(Device::cuda(0));
        }
    }
    wgpu()
}

fn wgpu() -> Option<Device> {
    // A process can open a device once only.
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| match Device::wgpu_options().init() {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(
                std::env::var_os("ARL_EXPECT_WGPU").is_none(),
                "no WGPU adapter: {error}"
            );
            println!("no WGPU adapter: {error}");
            None
        }
    });
    if device.is_none() {
        println!("skipped: no GPU and no software Vulkan driver was found");
    }
    device.clone()
}
