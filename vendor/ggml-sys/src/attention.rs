//! ggml's flash attention on its CPU backend: the rival of our attention in the benches.

use crate::bindings::*;
use crate::graph::{Memory, Runner};
use crate::{Error, check_lengths, type_info};

/// What attends to what: `heads` query heads of `rows` tokens over `positions` keys and values,
/// `heads / kv_heads` query heads sharing one KV head.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Type of keys and values: f16, or one that ggml can multiply.
    pub id: u32,
    /// (kv_heads, positions, head_dim)
    pub keys: &'a [u8],
    /// (kv_heads, positions, head_dim)
    pub values: &'a [u8],
    /// Added to each score, IEEE half floats: (rows, positions); 0 or −∞.
    pub mask: &'a [u16],
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens at once.
    pub rows: usize,
    /// Keys and values of a head.
    pub positions: usize,
    /// Threads that ggml may use.
    pub threads: usize,
}

/// A ready graph of one `FLASH_ATTN_EXT`, with its memory and its threads. Scores are not scaled.
#[derive(Debug)]
pub struct FlashAttention {
    runner: Runner,
    #[expect(dead_code, reason = "owns what the graph reads and writes")]
    memory: Memory,
    queries: *mut ggml_tensor,
    output: *mut ggml_tensor,
    len: usize,
}

impl FlashAttention {
    /// Copies keys, values and mask and starts the threads.
    ///
    /// # Errors
    /// When the lengths do not fit each other or the type is none that ggml reads.
    pub fn new(problem: Problem) -> Result<Self, Error> {
        let Problem { id, keys, values, mask, heads, kv_heads, head_dim, rows, positions, threads } =
            problem;
        let wrong = Error::Length { id, bytes: keys.len(), values: positions };
        let info = type_info(id).filter(|info| info.readable).ok_or(Error::Type(id))?;
        let counts = [heads, kv_heads, head_dim, rows, positions, threads];
        let cells = positions.checked_mul(head_dim).and_then(|n| n.checked_mul(kv_heads));
        check_lengths(info, keys.len(), cells.ok_or(wrong)?)?;
        check_lengths(info, values.len(), cells.ok_or(wrong)?)?;
        if counts.contains(&0)
            || !heads.is_multiple_of(kv_heads)
            || !head_dim.is_multiple_of(info.block_len)
            || rows.checked_mul(positions) != Some(mask.len())
        {
            return Err(wrong);
        }
        let len = heads * rows * head_dim;
        let [heads, kv_heads, head_dim, rows, positions] =
            [heads, kv_heads, head_dim, rows, positions].map(|n| n as i64);
        // SAFETY: the sizes are positive and fit each other, so ggml finds nothing to abort over;
        // every pointer made here lives in `Memory` or `Runner`.
        unsafe {
            let mut memory = Memory::new();
            let mut runner = Runner::new(threads);
            let context = memory.context;
            let q = ggml_new_tensor_4d(context, GGML_TYPE_F32, head_dim, rows, heads, 1);
            let k = ggml_new_tensor_4d(context, id, head_dim, positions, kv_heads, 1);
            let v = ggml_new_tensor_4d(context, id, head_dim, positions, kv_heads, 1);
            let m = ggml_new_tensor_2d(context, GGML_TYPE_F16, positions, rows);
            let output = ggml_flash_attn_ext(context, q, k, v, m, 1.0, 0.0, 0.0);
            memory.allocate(ggml_backend_cpu_buffer_type());
            ggml_backend_tensor_set(k, keys.as_ptr().cast(), 0, keys.len());
            ggml_backend_tensor_set(v, values.as_ptr().cast(), 0, values.len());
            ggml_backend_tensor_set(m, mask.as_ptr().cast(), 0, size_of_val(mask));
            runner.plan(&memory, output);
            Ok(Self { runner, memory, queries: q, output, len })
        }
    }

    /// Sets the queries, `(heads, rows, head_dim)`. Panics where the length is another.
    pub fn set_queries(&mut self, queries: &[f32]) {
        assert_eq!(queries.len(), self.len, "queries are (heads, rows, head_dim)");
        let bytes = size_of_val(queries);
        // SAFETY: the tensor holds exactly these floats.
        unsafe { ggml_backend_tensor_set(self.queries, queries.as_ptr().cast(), 0, bytes) };
    }

    /// Attends: the part to time.
    pub fn compute(&mut self) {
        self.runner.compute();
    }

    /// Lets the threads sleep until the next `compute`: by themselves they spin for a tenth of a second.
    pub fn rest(&mut self) {
        self.runner.rest();
    }

    /// Copies the result, `(rows, heads, head_dim)`. Panics where the length is another.
    pub fn output(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "results are (rows, heads, head_dim)");
        let bytes = size_of_val(out);
        // SAFETY: the tensor holds exactly these floats.
        unsafe { ggml_backend_tensor_get(self.output, out.as_mut_ptr().cast(), 0, bytes) };
    }
}
