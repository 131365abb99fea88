//! `replies.txt`, read. The unit tests of `outbound::replies` read it with this, too.

/// Name, class, scope, cause of the hold, throttle, row, and the beginning of the command.
pub type Line = [&'static str; 7];

pub fn lines() -> Vec<Line> {
    let lines = include_str!("../replies.txt").lines().filter(|line| !line.starts_with('#'));
    let cells = |line: &'static str| line.split(" | ").collect::<Vec<_>>().try_into();
    lines.map(|line| cells(line).unwrap_or_else(|_| panic!("not seven cells: {line}"))).collect()
}

/// What the reply of this name is to mean in its `n`-th wording, the first being 1.
pub fn meant(name: &str, n: usize) -> Line {
    let numbered = format!("{name}#{n}");
    let line = lines().into_iter().find(|line| line[0] == numbered || line[0] == name);
    line.unwrap_or_else(|| panic!("replies.txt has no {numbered}"))
}
