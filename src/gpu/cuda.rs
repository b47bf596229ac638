//! An NVIDIA GPU through the CUDA driver. The driver is loaded at run time; without it everything else works.

use super::device::{Buffer, CountedBytes, Device, DeviceId, Doorbell, Launch, Memory, Shared};
use super::list::{driver_version, reason};
use super::ptx::PTX;
use crate::error::{Error, Result};
use crate::ring::{Region, pinned};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// The first driver whose graphs can set up a kernel while the previous one runs: CUDA 12.3.
const DRIVER_OVERLAPS: i32 = 12_030;
/// The least compute capability for this, and of the PTX that supports it.
const CAPABILITY_OVERLAPS: u32 = 90;
/// The port of a kernel that lets the next one start early: `CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC`.
const PROGRAMMATIC_PORT: u8 = 1;

/// Opens a GPU that [`list`](super::list()) found: see [`Cuda::open`].
pub(crate) fn open(ordinal: usize, limit_bytes: usize) -> Result<Box<dyn Device>> {
    Ok(Box::new(Cuda::open(ordinal, limit_bytes)?))
}

fn failed(error: DriverError) -> Error {
    Error::Device(format!("the GPU failed: {}", reason(error)))
}

/// A GPU. See the module.
pub struct Cuda {
    id: DeviceId,
    context: Arc<CudaContext>,
    /// Runs queued work in order.
    stream: Arc<CudaStream>,
    /// Runs copies, which need not wait for work that waits for the host.
    copies: Arc<CudaStream>,
    capability: u32,
    /// Whether a kernel is set up while the previous one runs.
    overlaps: bool,
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    /// Recorded work by number; `None` if it was forgotten.
    work: Vec<Option<RecordedGraph>>,
    /// Doorbells that the stream waits for or rings.
    doorbells: Vec<Doorbell>,
    used_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
}

/// Recorded work, and the memory that it uses.
struct RecordedGraph {
    exec: sys::CUgraphExec,
    _memory: Vec<Memory>,
}

/// Memory of the GPU, freed when this is dropped.
struct DeviceAllocation {
    context: Arc<CudaContext>,
    address: sys::CUdeviceptr,
    _counted: CountedBytes,
}

impl Drop for DeviceAllocation {
    fn drop(&mut self) {
        let freed = self.context.bind_to_thread();
        // SAFETY: `alloc` got it from `malloc_sync`, and it is no longer used: work keeps what it uses until the stream
        // is done with it.
        let freed = freed.and_then(|()| unsafe { result::free_sync(self.address) });
        self.context.record_err(freed);
    }
}

// SAFETY: the driver's handles may be used on any thread to which the context is bound, which every call does first; a
// `Cuda` is used by one thread at a time.
unsafe impl Send for Cuda {}

impl Cuda {
    /// Opens the GPU with this number. At most `limit_bytes` of its memory are allocated.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub fn open(ordinal: usize, limit_bytes: usize) -> Result<Cuda> {
        let context = CudaContext::new(ordinal).map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let capability = (10 * major + minor) as u32;
        let overlaps = driver_version().map_err(failed)? >= DRIVER_OVERLAPS
            && capability >= CAPABILITY_OVERLAPS;
        Ok(Cuda {
            id: DeviceId::new(),
            overlaps,
            stream: context.new_stream().map_err(failed)?,
            copies: context.new_stream().map_err(failed)?,
            capability,
            context,
            modules: HashMap::new(),
            functions: HashMap::new(),
            work: Vec::new(),
            doorbells: Vec::new(),
            used_bytes: Arc::default(),
            limit_bytes,
        })
    }

    /// Forgets all recorded work once the queue is empty. Its numbers become invalid.
    pub(super) fn forget_work(&mut self) {
        let context = &self.context;
        context.record_err(context.bind_to_thread());
        context.record_err(self.stream.synchronize());
        for work in self.work.iter_mut().filter_map(Option::take) {
            // SAFETY: created by this, and no longer in use.
            context.record_err(unsafe { result::graph::exec_destroy(work.exec) });
        }
    }

    /// Measures copies inside the GPU's memory: bytes read and written a second.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn copy_rate(&mut self) -> Result<f64> {
        const BYTES: usize = 1 << 30;
        const TIMES: usize = 8;
        let from: Buffer<u8> = Buffer::new(self, BYTES)?;
        let to: Buffer<u8> = Buffer::new(self, BYTES)?;
        let [from_at, to_at] = [&from, &to].map(|buffer| buffer.memory().address_on(self.id));
        let mut best = 0.0f64;
        for _ in 0..5 {
            self.copies.synchronize().map_err(failed)?;
            let start = Instant::now();
            let queued = (0..TIMES).try_for_each(|_| {
                // SAFETY: both have this length, and live until the copies are waited for below.
                unsafe { result::memcpy_dtod_async(to_at, from_at, BYTES, self.copies.cu_stream()) }
            });
            let done = self.copies.synchronize();
            queued.and(done).map_err(failed)?;
            let rate = (2 * TIMES * BYTES) as f64 / start.elapsed().as_secs_f64();
            best = best.max(rate);
        }
        Ok(best)
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(failed)
    }

    /// Keeps the memory of a doorbell as long as the stream. Returns its address.
    fn keep(&mut self, doorbell: &Doorbell) -> u64 {
        let address = doorbell.address_on(self.id);
        if !self.doorbells.iter().any(|kept| kept.address_on(self.id) == address) {
            self.doorbells.push(doorbell.clone());
        }
        address
    }

    /// The kernel `name`, from the newest PTX that this GPU can run.
    fn function(&mut self, name: &'static str) -> Result<sys::CUfunction> {
        if let Some(function) = self.functions.get(name) {
            return Ok(*function);
        }
        let entry = format!(".entry {name}(");
        let ptx = PTX.iter().filter(|ptx| ptx.arch <= self.capability && ptx.text.contains(&entry));
        let ptx = ptx.max_by_key(|ptx| ptx.arch);
        let ptx = ptx.ok_or_else(|| Error::Unsupported(format!("there is no kernel {name}")))?;
        let module = match self.modules.get(ptx.name) {
            Some(module) => *module,
            None => {
                let text = CString::new(ptx.text).expect("PTX is text");
                // SAFETY: `text` ends with a zero and is PTX.
                let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
                let module = module.map_err(failed)?;
                self.modules.insert(ptx.name, module);
                module
            }
        };
        let c_name = CString::new(name).expect("a name has no zero");
        // SAFETY: the module is loaded until this is dropped.
        let function = unsafe { result::module::get_function(module, c_name) }.map_err(failed)?;
        self.functions.insert(name, function);
        Ok(function)
    }

    /// Adds a launch to a graph, after the previous one.
    fn add(
        &self,
        graph: sys::CUgraph,
        before: Option<sys::CUgraphNode>,
        launch: &Launch,
    ) -> std::result::Result<sys::CUgraphNode, DriverError> {
        let mut args: *mut c_void = launch.args().as_ptr().cast_mut().cast();
        let params = sys::CUDA_KERNEL_NODE_PARAMS_v3 {
            func: self.functions[launch.kernel()],
            gridDimX: launch.grid()[0],
            gridDimY: launch.grid()[1],
            gridDimZ: 1,
            blockDimX: launch.threads(),
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: &mut args,
            extra: std::ptr::null_mut(),
            kern: std::ptr::null_mut(),
            ctx: std::ptr::null_mut(),
        };
        let mut node = std::ptr::null_mut();
        let before = before.as_slice();
        // SAFETY: `Launch::new` was promised that the argument is the kernel's and that the memory it points to is as
        // long as the kernel reads and writes; the driver copies the argument before it returns. The parameters of both
        // versions begin alike, and fields that are not set are 0. Kernels that overlap wait for the previous one
        // themselves: `after_previous` in common.cuh.
        unsafe {
            if self.overlaps {
                let edge = sys::CUgraphEdgeData {
                    from_port: PROGRAMMATIC_PORT,
                    type_: sys::CUgraphDependencyType_enum::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
                        as u8,
                    ..std::mem::zeroed()
                };
                let mut any: sys::CUgraphNodeParams = std::mem::zeroed();
                any.type_ = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL;
                any.__bindgen_anon_1.kernel = params;
                sys::cuGraphAddNode_v2(
                    &mut node,
                    graph,
                    before.as_ptr(),
                    &edge,
                    before.len(),
                    &mut any,
                )
            } else {
                let params = (&raw const params).cast();
                sys::cuGraphAddKernelNode_v2(
                    &mut node,
                    graph,
                    before.as_ptr(),
                    before.len(),
                    params,
                )
            }
        }
        .result()?;
        Ok(node)
    }

    /// Combines launches, one after the other, into one piece of work.
    fn instantiate(
        &self,
        launches: &[Launch],
    ) -> std::result::Result<sys::CUgraphExec, DriverError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: it is destroyed below, once.
        unsafe { sys::cuGraphCreate(&mut graph, 0) }.result()?;
        let added = launches
            .iter()
            .try_fold(None, |before, launch| self.add(graph, before, launch).map(Some));
        // SAFETY: the graph is the driver's; the instance made from it does not need it.
        let (work, destroyed) = unsafe {
            let work = added
                .and_then(|_| result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)));
            (work, result::graph::destroy(graph))
        };
        let work = work?;
        destroyed?;
        // SAFETY: both are the driver's.
        unsafe { result::graph::upload(work, self.stream.cu_stream()) }?;
        Ok(work)
    }
}

impl Device for Cuda {
    fn multiprocessors(&self) -> usize {
        let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        self.context.attribute(attribute).map_or(1, |n| n as usize)
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory> {
        self.bind()?;
        let (padded, used, limit) =
            (bytes.next_multiple_of(256).max(256), self.used_bytes(), self.limit_bytes);
        if used + padded > limit {
            return Err(Error::DeviceMemory { limit_bytes: limit });
        }
        // SAFETY: freed by its owner, once.
        let address = unsafe { result::malloc_sync(padded) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::Device(format!(
                "the GPU's memory is full with {} MiB of the drafter; nvidia-smi shows what else is there",
                used >> 20
            )),
            _ => failed(error),
        })?;
        let (context, counted) =
            (self.context.clone(), CountedBytes::new(padded, &self.used_bytes));
        let owner = DeviceAllocation { context, address, _counted: counted };
        // SAFETY: it was allocated above; the call below waits until it is done.
        unsafe { result::memset_d8_async(address, 0, padded, self.copies.cu_stream()) }
            .map_err(failed)?;
        self.copies.synchronize().map_err(failed)?;
        // SAFETY: zeros of this context, freed with `owner`.
        Ok(unsafe { Memory::new(self.id, address, bytes, owner) })
    }

    fn used_bytes(&self) -> usize {
        self.used_bytes.load(Relaxed)
    }

    fn write(&mut self, to: &Memory, bytes: &[u8]) -> Result<()> {
        assert_eq!(to.bytes(), bytes.len(), "memory as long as what is written");
        self.bind()?;
        let to = to.address_on(self.id);
        // SAFETY: the memory has this length and is held until the copy is done.
        unsafe { result::memcpy_htod_async(to, bytes, self.copies.cu_stream()) }.map_err(failed)?;
        self.copies.synchronize().map_err(failed)
    }

    fn read(&mut self, from: &Memory, bytes: &mut [u8]) -> Result<()> {
        assert_eq!(from.bytes(), bytes.len(), "memory as long as what is read");
        self.finish()?;
        // SAFETY: the memory has this length.
        unsafe { result::memcpy_dtoh_sync(bytes, from.address_on(self.id)) }.map_err(failed)
    }

    fn finish(&mut self) -> Result<()> {
        self.bind()?;
        self.stream.synchronize().map_err(failed)
    }

    fn share(&mut self, bytes: usize) -> Result<(Region, Shared)> {
        let (region, pinned) = pinned::region(&self.context, bytes)?;
        let address = pinned.device_address();
        // SAFETY: the device sees the region's bytes at this address; they live as long as the last of their owners.
        Ok((region, unsafe { Shared::new(Memory::new(self.id, address, bytes, pinned)) }))
    }

    fn record(&mut self, launches: &[Launch]) -> Result<usize> {
        self.bind()?;
        let mut memory = Vec::new();
        for launch in launches {
            memory.extend_from_slice(launch.memory_on(self.id));
            self.function(launch.kernel())?;
        }
        let exec = self.instantiate(launches).map_err(failed)?;
        self.work.push(Some(RecordedGraph { exec, _memory: memory }));
        Ok(self.work.len() - 1)
    }

    fn run(&mut self, work: usize) -> Result<()> {
        self.bind()?;
        let work = self.work[work].as_ref().expect("work that was not forgotten");
        // SAFETY: the work is this device's, and its memory is held until the stream is done with it.
        unsafe { result::graph::launch(work.exec, self.stream.cu_stream()) }.map_err(failed)
    }

    fn wait(&mut self, doorbell: &Doorbell, value: u32) -> Result<()> {
        let address = self.keep(doorbell);
        // SAFETY: a word of a region of this context, which is kept as long as the stream.
        unsafe { pinned::wait(&self.stream, address, value) }.map_err(failed)
    }

    fn ring(&mut self, doorbell: &Doorbell, value: u32) -> Result<()> {
        let address = self.keep(doorbell);
        // SAFETY: as for `wait`.
        unsafe { pinned::ring(&self.stream, address, value) }.map_err(failed)
    }

    fn check(&mut self) -> Result<()> {
        self.bind()?;
        // SAFETY: the stream is this device's.
        match unsafe { sys::cuStreamQuery(self.stream.cu_stream()) } {
            sys::CUresult::CUDA_SUCCESS | sys::CUresult::CUDA_ERROR_NOT_READY => Ok(()),
            error => Err(failed(DriverError(error))),
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        self.forget_work();
        for module in self.modules.values() {
            // SAFETY: loaded by this, and its functions are no longer used.
            self.context.record_err(unsafe { result::module::unload(*module) });
        }
    }
}
