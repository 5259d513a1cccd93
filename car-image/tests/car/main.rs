//! The runtime as people get it: the program, the real ONNX Runtime, and a simulator made here
//! that speaks the Donkey protocol.

#[cfg(test)]
mod arm64;
#[cfg(test)]
mod base;
#[cfg(test)]
mod car;
#[cfg(test)]
mod driving;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod stopping;
