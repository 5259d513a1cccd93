//! The twin's binary, driven over real sockets.

#[cfg(test)]
mod client;
#[cfg(test)]
mod free;
#[cfg(test)]
mod judged;
