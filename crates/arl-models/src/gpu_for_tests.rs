//! The GPUs that tests run on.

use std::sync::OnceLock;

use burn::tensor::Device;

/// The GPUs of this build that are here, with their names. Opened once: a second WGPU device in a process fails.
///
/// # Panics
/// If there is none though the environment variable `ARL_EXPECT_WGPU` says so.
pub(crate) fn gpus() -> &'static [(&'static str, Device)] {
    static GPUS: OnceLock<Vec<(&'static str, Device)>> = OnceLock::new();
    GPUS.get_or_init(|| {
        let mut found = Vec::new();
        #[cfg(feature = "cuda")]
        if !Device::enumerate(burn::tensor::DeviceType::Cuda)
            .into_vec()
            .is_empty()
        {
            found.push(("cuda", Device::cuda(0)));
        }
        #[cfg(feature = "wgpu")]
        match Device::wgpu_options().init() {
            Ok(device) => found.push(("wgpu", device)),
            Err(error) => {
                let expected = std::env::var_os("ARL_EXPECT_WGPU").is_some();
                assert!(!expected, "no WGPU adapter: {error}");
                println!("skipped: no GPU and no software Vulkan driver was found");
            }
        }
        found
    })
}
