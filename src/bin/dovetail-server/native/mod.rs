//! What llama.cpp's server has beside the interfaces of others.
//!
//! ```text
//! tokenize.rs    texts to tokens, tokens to texts, conversations to texts
//! completion.rs  one completion in its own form     infill.rs  code between two parts
//! props.rs       what the server is                 slots.rs   what it does
//! metrics.rs     counters for Prometheus
//! ```

pub mod completion;
pub mod infill;
pub mod metrics;
pub mod props;
pub mod slots;
pub mod tokenize;
