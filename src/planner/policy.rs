//! Policies that decide tree sizes, as users name them.

use super::cast::Thresholds;
use crate::tree::{MAX_NODES, TreeShape};
use std::fmt;
use std::str::FromStr;

/// How tree sizes are decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// By measured costs and acceptance rates: see `plan.rs`.
    Cost,
    /// By CAST's thresholds: see `cast.rs`.
    Cast(Thresholds),
    /// All trees have this size.
    Fixed(TreeShape),
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let wrong = || {
            format!(
                "give cost; chain:K or beam:DEPTH,WIDTH,NODES with up to {MAX_NODES} nodes, the root included; \
                 eagle2:60 or eagle2:16; or cast, cast:C1,C2,C3"
            )
        };
        match text.split_once(':') {
            None if text == "cost" => Ok(Policy::Cost),
            None if text == "cast" => Ok(Policy::Cast(Thresholds::PAPER)),
            Some(("cast", numbers)) => {
                let numbers: Option<Vec<f64>> = numbers
                    .split(',')
                    .map(|n| n.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0))
                    .collect();
                match numbers.as_deref() {
                    Some(&[breadth, depth, nodes]) => {
                        Ok(Policy::Cast(Thresholds { breadth, depth, nodes }))
                    }
                    _ => Err(wrong()),
                }
            }
            Some(("eagle2", "60")) => {
                Ok(Policy::Fixed(TreeShape { depth: 6, width: 10, nodes: 60 }))
            }
            Some(("eagle2", "16")) => {
                Ok(Policy::Fixed(TreeShape { depth: 7, width: 10, nodes: 16 }))
            }
            _ => text.parse().map(Policy::Fixed).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Policy::Cost => f.write_str("cost"),
            Policy::Cast(Thresholds { breadth, depth, nodes }) => {
                write!(f, "cast:{breadth},{depth},{nodes}")
            }
            Policy::Fixed(growth) => growth.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["cost", "cast:4,3,2.5", "cast:0,1,1e3", "chain:6", "beam:6,10,60"] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string().parse(), Ok(policy), "{text}");
        }
        assert_eq!("cast".parse(), Ok(Policy::Cast(Thresholds::PAPER)));
        assert_eq!("eagle2:60".parse::<Policy>().unwrap().to_string(), "beam:6,10,60");
        assert_eq!("eagle2:16".parse::<Policy>().unwrap().to_string(), "beam:7,10,16");
        for text in [
            "",
            "costs",
            "cost:1",
            "cast:",
            "cast:1,2",
            "cast:1,2,x",
            "cast:1,2,-3",
            "eagle2:7",
            "eagle2",
        ] {
            assert!(
                text.parse::<Policy>().unwrap_err().starts_with("give cost; chain:K"),
                "{text}"
            );
        }
    }
}
