//! A graph of one operation: the memory of its tensors, and the threads that run it.

use std::ptr;

use crate::bindings::*;

/// ggml's CPU backend with threads of its own, and the graph they run.
#[derive(Debug)]
pub struct Runner {
    pub backend: ggml_backend_t,
    threads: ggml_threadpool_t,
    graph: *mut ggml_cgraph,
}

impl Runner {
    /// Starts `threads` threads: at least one, and no more than ggml has room for.
    pub fn new(threads: usize) -> Self {
        assert!((1..=512).contains(&threads), "ggml takes 1 to 512 threads");
        // SAFETY: parameters as ggml makes them; both pointers are freed in `drop` and nowhere else.
        unsafe {
            let backend = ggml_backend_cpu_init();
            let mut parameters = ggml_threadpool_params_default(threads as i32);
            let pool = ggml_threadpool_new(&mut parameters);
            ggml_backend_cpu_set_n_threads(backend, threads as i32);
            ggml_backend_cpu_set_threadpool(backend, pool);
            Self { backend, threads: pool, graph: ptr::null_mut() }
        }
    }

    /// Makes `output`, a tensor of `memory`, what is computed.
    ///
    /// # Safety
    /// `memory` and whatever else `output` reads outlive this runner's last `compute`.
    pub unsafe fn plan(&mut self, memory: &Memory, output: *mut ggml_tensor) {
        // SAFETY: the caller's promise; the context has room for one graph.
        unsafe {
            self.graph = ggml_new_graph(memory.context);
            ggml_build_forward_expand(self.graph, output);
        }
    }

    /// Computes what was planned.
    pub fn compute(&mut self) {
        // SAFETY: a planned graph, whose tensors the promise to `plan` keeps alive.
        let status = unsafe { ggml_backend_graph_compute(self.backend, self.graph) };
        assert_eq!(status, GGML_STATUS_SUCCESS, "ggml computes a graph that it accepted");
    }

    /// Lets the threads sleep until the next `compute`: by themselves they spin for a tenth of a second.
    pub fn rest(&mut self) {
        // SAFETY: the threads are this runner's and no graph is being computed.
        unsafe { ggml_threadpool_pause(self.threads) };
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are used by nobody else; the backend goes first because
        // it knows the threads.
        unsafe {
            ggml_backend_free(self.backend);
            ggml_threadpool_free(self.threads);
        }
    }
}

/// Descriptions of a few tensors and the buffer that holds their values.
#[derive(Debug)]
pub struct Memory {
    pub context: *mut ggml_context,
    buffer: ggml_backend_buffer_t,
}

impl Memory {
    /// Room for a handful of descriptions.
    pub fn new() -> Self {
        // SAFETY: with no buffer given ggml allocates room for these few descriptions itself.
        let context = unsafe {
            ggml_init(ggml_init_params {
                mem_size: 8 * ggml_tensor_overhead() + ggml_graph_overhead(),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            })
        };
        Self { context, buffer: ptr::null_mut() }
    }

    /// Gives the context's tensors their values' room, of this kind of memory.
    ///
    /// # Safety
    /// The context's tensors are unallocated and `kind` can hold them.
    pub unsafe fn allocate(&mut self, kind: ggml_backend_buffer_type_t) {
        // SAFETY: the caller's promise.
        self.buffer = unsafe { ggml_backend_alloc_ctx_tensors_from_buft(self.context, kind) };
        assert!(!self.buffer.is_null(), "ggml is out of memory");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made by `new` and `allocate`, both accept null.
        unsafe {
            ggml_backend_buffer_free(self.buffer);
            ggml_free(self.context);
        }
    }
}
