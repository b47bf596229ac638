//! One matrix multiplication on ggml's CPU backend: the rival of our kernels in the benches.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use crate::bindings::*;
use crate::graph::{Memory, Runner};
use crate::{Error, check_lengths, type_info};

/// How the weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As in the file.
    Plain,
    /// As ggml rearranges them at load time for this machine (several rows interleaved, or AMX
    /// tiles), where it has a kernel for that.
    Repacked,
}

/// What is to be multiplied.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Type of the weights.
    pub id: u32,
    /// `rows` rows of `columns` weights each.
    pub weights: &'a [u8],
    /// Rows of the weights: outputs a token.
    pub rows: usize,
    /// Columns of the weights: inputs a token, whole blocks.
    pub columns: usize,
    /// Tokens multiplied at once.
    pub tokens: usize,
    /// Threads that ggml may use.
    pub threads: usize,
}

/// A ready graph of one `MUL_MAT`, with its memory and its threads.
#[derive(Debug)]
pub struct MatMul {
    runner: Runner,
    weights: Memory,
    run: Memory,
    input: *mut ggml_tensor,
    output: *mut ggml_tensor,
    input_len: usize,
    output_len: usize,
}

impl MatMul {
    /// Copies (and rearranges) the weights and starts the threads. `Ok(None)` where ggml has no
    /// [`Layout::Repacked`] for this type, these sizes and this machine.
    pub fn new(problem: Problem, layout: Layout) -> Result<Option<Self>, Error> {
        let Problem { id, weights, rows, columns, tokens, threads } = problem;
        let wrong = Error::Length { id, bytes: weights.len(), values: columns };
        let values = rows.checked_mul(columns).ok_or(wrong)?;
        let info = type_info(id).filter(|info| info.readable).ok_or(Error::Type(id))?;
        check_lengths(info, weights.len(), values)?;
        if !columns.is_multiple_of(info.block_len) || values == 0 || tokens == 0 || threads == 0 {
            return Err(wrong);
        }
        // SAFETY: the sizes are positive and whole blocks, so ggml finds nothing to abort over;
        // every pointer made here lives in `Memory` or `Runner`.
        unsafe {
            let mut matmul = Self {
                runner: Runner::new(threads),
                weights: Memory::new(),
                run: Memory::new(),
                input: ptr::null_mut(),
                output: ptr::null_mut(),
                input_len: columns * tokens,
                output_len: rows * tokens,
            };
            let (columns, rows, tokens) = (columns as i64, rows as i64, tokens as i64);
            let w = ggml_new_tensor_2d(matmul.weights.context, id, columns, rows);
            let context = matmul.run.context;
            matmul.input = ggml_new_tensor_2d(context, GGML_TYPE_F32, columns, tokens);
            matmul.output = ggml_mul_mat(context, w, matmul.input);

            let kind = match layout {
                Layout::Plain => ggml_backend_cpu_buffer_type(),
                Layout::Repacked => match matmul.repacked(w) {
                    Some(kind) => kind,
                    None => return Ok(None),
                },
            };
            matmul.weights.allocate(kind);
            matmul.run.allocate(ggml_backend_cpu_buffer_type());
            ggml_backend_tensor_set(w, weights.as_ptr().cast(), 0, weights.len());

            matmul.runner.plan(&matmul.run, matmul.output);
            Ok(Some(matmul))
        }
    }

    /// Sets the activations, `(tokens, columns)`. Panics where the length is another.
    pub fn set_input(&mut self, x: &[f32]) {
        assert_eq!(x.len(), self.input_len, "activations are (tokens, columns)");
        // SAFETY: the tensor holds exactly these floats.
        unsafe { ggml_backend_tensor_set(self.input, x.as_ptr().cast(), 0, size_of_val(x)) };
    }

    /// Multiplies: the part to time.
    pub fn compute(&mut self) {
        self.runner.compute();
    }

    /// Lets the threads sleep until the next `compute`: by themselves they spin for a tenth of a second.
    pub fn rest(&mut self) {
        self.runner.rest();
    }

    /// Copies the result, `(tokens, rows)`. Panics where the length is another.
    pub fn output(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.output_len, "results are (tokens, rows)");
        let bytes = size_of_val(out);
        // SAFETY: the tensor holds exactly these floats.
        unsafe { ggml_backend_tensor_get(self.output, out.as_mut_ptr().cast(), 0, bytes) };
    }

    /// The first of ggml's extra kinds of memory in which it can multiply `w`, in ggml's own order.
    ///
    /// # Safety
    /// `w` and `self.output` are unallocated tensors of this graph.
    unsafe fn repacked(&self, w: *mut ggml_tensor) -> Option<ggml_backend_buffer_type_t> {
        type ExtraKinds =
            unsafe extern "C" fn(ggml_backend_dev_t) -> *mut ggml_backend_buffer_type_t;
        // SAFETY: ggml documents the name with this signature; the list ends with null. Like ggml's
        // own loader we ask with an empty buffer in place and take it away again.
        unsafe {
            let registry = ggml_backend_cpu_reg();
            let name = c"ggml_backend_dev_get_extra_bufts".as_ptr();
            let function = NonNull::new(ggml_backend_reg_get_proc_address(registry, name))?;
            let extra_kinds = std::mem::transmute::<NonNull<c_void>, ExtraKinds>(function);
            let mut kinds = extra_kinds(ggml_backend_reg_dev_get(registry, 0));
            while !kinds.is_null() && !(*kinds).is_null() {
                let buffer = ggml_backend_buft_alloc_buffer(*kinds, 0);
                (*w).buffer = buffer;
                let supported = ggml_backend_supports_op(self.runner.backend, self.output);
                (*w).buffer = ptr::null_mut();
                ggml_backend_buffer_free(buffer);
                if supported {
                    return Some(*kinds);
                }
                kinds = kinds.add(1);
            }
        }
        None
    }
}
