//! What is wrong with a command line, in one line.

/// clap's message without its usage text: the first line and its tip.
pub fn one_line(rendered: &str) -> String {
    let mut lines = rendered.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let useful = |line: &&str| {
        let noise = line.starts_with("For more") || line.starts_with("tip: to pass");
        !line.is_empty() && !noise
    };
    let more: Vec<_> = lines.filter(useful).collect();
    let more = more.iter().map(|line| line.strip_prefix("tip: ").unwrap_or(line));
    let parts: Vec<_> = [first].into_iter().chain(more).chain(["see --help"]).collect();
    parts.join("; ")
}
