//! Promotion into real git repositories, by paths and over HTTP, with others at work beside it.

#[cfg(test)]
mod commits;
#[cfg(test)]
mod environments;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod people;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod races;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod server;
#[cfg(test)]
mod world;
