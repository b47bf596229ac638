//! Weights that several drafters of this process share: a file that is open for a target is not loaded again for it.

use crate::error::Result;
use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Open weights by their keys.
static OPEN: Mutex<Vec<(String, Weak<dyn Any + Send + Sync>)>> = Mutex::new(Vec::new());

/// The open weights with this key; loads them with `open` if there are none. `key` must determine the type too.
///
/// # Errors
/// Those of `open`.
pub fn shared<T: Any + Send + Sync>(
    key: String,
    open: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    // The lock is held while weights load, so that others wait for them instead of loading them again.
    let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(_, weights)| weights.strong_count() > 0);
    let found = all.iter().find(|(known, _)| *known == key);
    if let Some(Ok(weights)) =
        found.and_then(|(_, weights)| weights.upgrade()).map(|weights| weights.downcast::<T>())
    {
        return Ok(weights);
    }
    let weights = Arc::new(open()?);
    let any: Arc<dyn Any + Send + Sync> = weights.clone();
    all.push((key, Arc::downgrade(&any)));
    Ok(weights)
}

/// A key for a file in its present version.
pub fn file_key(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let metadata = std::fs::metadata(path).ok();
    let state = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
    format!("{} {state:?}", whole.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_open_is_shared_and_what_is_not_is_loaded() {
        let get = |key: &str, n: u32| shared(key.into(), || Ok(n)).unwrap();
        let first = get("shared test a", 1);
        assert!(Arc::ptr_eq(&first, &get("shared test a", 2)));
        assert_eq!(*get("shared test b", 3), 3);
        drop(first);
        assert_eq!(*get("shared test a", 4), 4, "nobody had it any more");
        shared::<u32>("shared test c".into(), || Err(Error::Invalid("no".into()))).unwrap_err();
        assert_eq!(*get("shared test c", 5), 5);
    }
}
