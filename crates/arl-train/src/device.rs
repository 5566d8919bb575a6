//! Which devices are here, and which one to take.

use arl_models::Precision;
use burn::tensor::{Device, FloatDType};
use serde::Serialize;

use crate::config::DeviceChoice;

/// Environment variable that, set to 1, lets `--device wgpu` take software that imitates a GPU, for tests without one. It is many
/// times slower than the CPU itself.
const ALLOW_SOFTWARE: &str = "ARL_ALLOW_SOFTWARE_GPU";
/// With this environment variable at 1 convolutions leave a GPU's matrix units alone, and f32 is computed in f32.
const NO_MATRIX_UNITS: &str = "ARL_NO_MATRIX_UNITS";

/// A device that was found, or why there is none of its kind.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// `cpu`, `wgpu` or `cuda`.
    pub kind: &'static str,
    /// The device's own name.
    pub name: String,
    /// Whether a training can run on it.
    pub usable: bool,
    /// Whether it is a software imitation of a GPU.
    pub software: bool,
    /// What to know about it.
    pub note: String,
}

/// Looks for every device that this build can use.
pub fn list() -> Vec<Found> {
    vec![cpu(), wgpu(), cuda()]
}

/// Looks only where a choice makes it necessary: opening a GPU's driver takes time and may print.
pub fn list_for(choice: DeviceChoice) -> Vec<Found> {
    match choice {
        DeviceChoice::Cpu => vec![cpu()],
        _ => list(),
    }
}

fn cpu() -> Found {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usable = cfg!(feature = "flex");
    let note = if usable {
        ""
    } else {
        "not in this build (feature flex)"
    };
    Found {
        kind: "cpu",
        name: format!("CPU, {cores} threads"),
        usable,
        software: false,
        note: note.into(),
    }
}

/// Takes a device, or says in a sentence why not.
///
/// # Errors
/// When the device that was asked for is not here. `auto` always finds the CPU.
pub fn open(choice: DeviceChoice) -> anyhow::Result<(Device, Found)> {
    let found = list_for(choice);
    let wanted = choose(choice, &found)?;
    let device = match wanted.kind {
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(0),
        #[cfg(feature = "flex")]
        "cpu" => Device::flex(),
        kind => anyhow::bail!("{kind} is not in this build"),
    };
    // Burn loads optimiser states onto its default device first; that has to be this one.
    let default = if wanted.kind == "cpu" {
        "flex"
    } else {
        wanted.kind
    };
    if std::env::var("BURN_DEVICE").as_deref() != Ok(default) {
        // SAFETY: our own threads, which start later, don't touch the environment. A GPU's driver that was opened above
        // might read it on a thread of its own: Burn offers no other way.
        unsafe { std::env::set_var("BURN_DEVICE", default) };
    }
    if std::env::var(NO_MATRIX_UNITS).as_deref() != Ok("1") {
        for dtype in arl_models::use_matrix_units(&device).wrong {
            tracing::warn!(
                "{}: its driver computes {dtype:?} wrongly on the GPU's matrix units, so they are not used for it; a newer driver \
                 may be faster",
                wanted.name
            );
        }
    }
    Ok((device, wanted.clone()))
}

/// A device for reading and writing weights, which computes nothing: the CPU, unless this build has none.
pub fn for_files() -> anyhow::Result<Device> {
    let choice = if cpu().usable {
        DeviceChoice::Cpu
    } else {
        DeviceChoice::Auto
    };
    Ok(open(choice)?.0)
}

/// Refuses numbers that the device has not, or gains nothing by.
pub fn check_precision(precision: Precision, device: &Device, found: &Found) -> anyhow::Result<()> {
    if precision == Precision::F32 {
        return Ok(());
    }
    anyhow::ensure!(
        found.kind != "cpu",
        "--precision bf16 is for GPUs: the CPU computes it by way of f32, which is slower than f32 itself; leave it out"
    );
    // The shaders of a build without these features are WGSL, which has no bf16.
    let in_wgsl = found.kind == "wgpu" && !cfg!(any(feature = "vulkan", feature = "metal"));
    let cure = match in_wgsl {
        true => "build with --features vulkan (or metal), or leave --precision out",
        false => "leave --precision out",
    };
    anyhow::ensure!(
        device.supports_dtype(FloatDType::BF16),
        "{} ({}) has no arithmetic in bf16 in this build; {cure}",
        found.name,
        found.kind
    );
    Ok(())
}

/// The device that a choice stands for among those found.
///
/// # Errors
/// As [`open`].
pub fn choose(choice: DeviceChoice, found: &[Found]) -> anyhow::Result<&Found> {
    let of_kind = |kind: &str| found.iter().find(|device| device.kind == kind);
    let usable = |kind: &str| of_kind(kind).filter(|device| device.usable);
    let kind = match choice {
        DeviceChoice::Auto => {
            let gpu = usable("cuda").or_else(|| usable("wgpu").filter(|device| !device.software));
            return gpu
                .or_else(|| usable("cpu"))
                .ok_or_else(|| anyhow::anyhow!("this build has no device"));
        }
        explicit => explicit.to_string(),
    };
    let note = of_kind(&kind).map_or("", |device| device.note.as_str());
    usable(&kind)
        .ok_or_else(|| anyhow::anyhow!("--device {kind}: {note}; `arl devices` lists what is here"))
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Found {
    let kind = burn::tensor::DeviceKind::DefaultDevice;
    // The driver's own complaints would land between our lines; the answer tells enough.
    let opened = std::panic::catch_unwind(|| Device::wgpu_options().device_kind(kind).init());
    match opened {
        Ok(Ok(device)) => {
            let name = device
                .identity()
                .map_or("GPU".to_string(), |identity| identity.name.to_string());
            let lower = name.to_lowercase();
            let software = ["llvmpipe", "lavapipe", "swiftshader", "basic render"]
                .iter()
                .any(|word| lower.contains(word));
            let allowed = std::env::var(ALLOW_SOFTWARE).as_deref() == Ok("1");
            let note = match (software, allowed) {
                (false, _) => String::new(),
                (true, true) => format!("imitates a GPU on the CPU; allowed by {ALLOW_SOFTWARE}"),
                (true, false) => {
                    "no GPU was found, only software that imitates one; use --device cpu".into()
                }
            };
            Found {
                kind: "wgpu",
                name,
                usable: allowed || !software,
                software,
                note,
            }
        }
        Ok(Err(_)) | Err(_) => Found {
            kind: "wgpu",
            name: "none".into(),
            usable: false,
            software: false,
            note: "no GPU with a Vulkan, Metal or DirectX 12 driver was found".into(),
        },
    }
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Found {
    missing("wgpu")
}

#[cfg(feature = "cuda")]
fn cuda() -> Found {
    let count = Device::enumerate(burn::tensor::DeviceType::Cuda)
        .into_vec()
        .len();
    Found {
        kind: "cuda",
        name: if count > 0 {
            format!("NVIDIA GPU ({count})")
        } else {
            "none".into()
        },
        usable: count > 0,
        software: false,
        note: if count > 0 {
            ""
        } else {
            "no NVIDIA driver or GPU was found"
        }
        .into(),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Found {
    missing("cuda")
}

#[cfg(any(not(feature = "wgpu"), not(feature = "cuda")))]
fn missing(kind: &'static str) -> Found {
    Found {
        kind,
        name: "none".into(),
        usable: false,
        software: false,
        note: format!("this build has no {kind}; build with --features {kind}"),
    }
}
