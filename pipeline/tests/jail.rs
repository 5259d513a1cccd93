//! The jail against programs that want out: the real binary, a real hostile program.

#[cfg(test)]
#[path = "jail/cases.rs"]
mod cases;
