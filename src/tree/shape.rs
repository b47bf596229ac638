//! Limits of a tree's size.

use super::MAX_NODES;
use std::fmt;
use std::str::FromStr;

/// Limits of a tree's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeShape {
    /// Largest number of drafted tokens on a path.
    pub depth: usize,
    /// Number of candidates that are expanded at each level, and that each node proposes.
    pub width: usize,
    /// Largest number of verified nodes, the root included.
    pub nodes: usize,
}

impl TreeShape {
    /// The root alone.
    pub const ROOT: TreeShape = TreeShape { depth: 0, width: 0, nodes: 1 };

    /// The largest shape that a tree can hold.
    pub const ANY: TreeShape =
        TreeShape { depth: MAX_NODES - 1, width: MAX_NODES - 1, nodes: MAX_NODES };

    /// The same with at most this depth and number of nodes.
    pub fn within(self, depth: usize, nodes: usize) -> TreeShape {
        TreeShape { depth: self.depth.min(depth), nodes: self.nodes.min(nodes), ..self }
    }

    /// The smaller of both in each dimension.
    pub fn and(self, other: TreeShape) -> TreeShape {
        TreeShape { width: self.width.min(other.width), ..self.within(other.depth, other.nodes) }
    }

    /// The same with paths of up to `depth` drafted tokens, at least one, and enough nodes for one such path.
    pub fn with_depth(self, depth: usize) -> TreeShape {
        let depth = depth.clamp(1, MAX_NODES - 1);
        let width = self.width.min((MAX_NODES - 1) / depth.saturating_sub(1).max(1));
        let nodes = if width == 1 { depth + 1 } else { self.nodes.max(depth + 1) };
        TreeShape { depth, width, nodes }
    }

    /// Whether it allows the root alone.
    pub fn is_root(self) -> bool {
        self.depth == 0 || self.width == 0 || self.nodes <= 1
    }
}

impl FromStr for TreeShape {
    type Err = String;

    /// `chain:K` or `beam:DEPTH,WIDTH,NODES`.
    fn from_str(text: &str) -> std::result::Result<TreeShape, String> {
        let wrong = || {
            format!(
                "give chain:K or beam:DEPTH,WIDTH,NODES with up to {MAX_NODES} nodes, the root included"
            )
        };
        let numbers: Option<Vec<usize>> = text
            .split_once(':')
            .and_then(|(_, numbers)| numbers.split(',').map(|n| n.parse().ok()).collect());
        let shape = match (text.split(':').next(), numbers.as_deref()) {
            (Some("chain"), Some(&[k])) => {
                TreeShape { depth: k, width: 1, nodes: k.saturating_add(1) }
            }
            (Some("beam"), Some(&[depth, width, nodes])) => TreeShape { depth, width, nodes },
            _ => return Err(wrong()),
        };
        // The frontier is a tree too: the root, and `width` nodes a level but for the last.
        let run = shape.depth.saturating_sub(1).saturating_mul(shape.width).saturating_add(1);
        if shape.is_root() || shape.nodes > MAX_NODES || run > MAX_NODES {
            return Err(wrong());
        }
        Ok(shape)
    }
}

impl fmt::Display for TreeShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            TreeShape { depth, width: 1, nodes } if nodes == depth + 1 => {
                write!(f, "chain:{depth}")
            }
            TreeShape { depth, width, nodes } => write!(f, "beam:{depth},{width},{nodes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for text in ["chain:1", "chain:63", "beam:7,9,60", "beam:1,10,4"] {
            assert_eq!(text.parse::<TreeShape>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "chain",
            "chain:",
            "chain:0",
            "chain:64",
            "chain:-1",
            "beam:3,4",
            "beam:8,10,60",
            "beam:3,4,65",
            "beam:3,0,4",
            "beam:0,3,4",
            "beam:3,4,1",
            "tree:3",
            "chain:99999999999999999999",
        ] {
            assert!(text.parse::<TreeShape>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_depth_that_is_asked_for_is_had() {
        for depth in 1..100 {
            for text in ["chain:3", "beam:4,9,60", "beam:1,10,4"] {
                let growth = text.parse::<TreeShape>().unwrap().with_depth(depth);
                assert_eq!(growth.depth, depth.min(63));
                assert_eq!(growth.to_string().parse(), Ok(growth), "it can be asked for");
            }
        }
    }
}
