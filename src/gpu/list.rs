//! The GPUs that the CUDA driver knows. The driver is loaded at run time.

use super::GpuInfo;
use cudarc::driver::{DriverError, result, sys};
use std::ffi::c_void;

/// The first driver that reads our PTX, as `cuDriverGetVersion` counts: CUDA 12.1.
const DRIVER: i32 = 12_010;
/// The least compute capability of our PTX.
const CAPABILITY: (i32, i32) = (7, 5);

/// All GPUs that the driver knows, or why there are none.
pub fn list() -> std::result::Result<Vec<GpuInfo>, String> {
    // SAFETY: it loads the driver's library and unloads it.
    if !unsafe { sys::is_culib_present() } {
        return Err(
            "no CUDA driver (libcuda) was found; install NVIDIA's driver, 530 or newer".into()
        );
    }
    // Every driver that is new enough has all other functions.
    for name in ["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"] {
        // SAFETY: the symbol is only looked up.
        if unsafe { sys::culib().get::<*const c_void>(name.as_bytes()) }.is_err() {
            return Err(format!(
                "the CUDA driver (libcuda) that was found is none: it has no {name}; install NVIDIA's, 530 or newer"
            ));
        }
    }
    let no_gpu = "the CUDA driver sees no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES say more";
    let failed = |error: DriverError| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => no_gpu.to_owned(),
        _ => format!("the CUDA driver does not work: {}", reason(error)),
    };
    result::init().map_err(failed)?;
    let version = driver_version().map_err(failed)?;
    if version < DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(format!(
            "the CUDA driver is of CUDA {major}.{minor}; install one of 12.1 or later, which is 530 or newer"
        ));
    }
    let count = result::device::get_count().map_err(failed)?;
    if count == 0 {
        return Err(no_gpu.into());
    }
    (0..count).map(|ordinal| gpu_info(ordinal).map_err(failed)).collect()
}

/// The driver's version as CUDA counts: 12010 is 12.1.
pub(super) fn driver_version() -> std::result::Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result()?;
    Ok(version)
}

fn gpu_info(ordinal: i32) -> std::result::Result<GpuInfo, DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` is one of the driver's.
    let attribute = |a| unsafe { result::device::get_attribute(device, a) };
    let capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let maps = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY)? != 0;
    let mode = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)?;
    let prohibited = sys::CUcomputemode_enum::CU_COMPUTEMODE_PROHIBITED as i32;
    let unusable = if capability < CAPABILITY {
        Some(format!(
            "its compute capability is {}.{}, and 7.5 is the least that can be used",
            capability.0, capability.1
        ))
    } else if !maps {
        Some("it cannot read the host's memory".to_owned())
    } else if mode == prohibited {
        Some("its compute mode is prohibited; nvidia-smi -c 0 allows it".to_owned())
    } else {
        None
    };
    Ok(GpuInfo {
        ordinal: ordinal as usize,
        name: result::device::get_name(device)?,
        capability,
        // SAFETY: `device` is one of the driver's.
        memory_bytes: unsafe { result::device::total_mem(device) }?,
        unusable,
    })
}

/// The driver's text for an error.
pub(super) fn reason(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
        _ => "an unknown error".into(),
    }
}
