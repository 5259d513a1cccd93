//! The store as its users see it, in a file and in a real `PostgreSQL` server.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod place;
#[cfg(test)]
mod server;
#[cfg(test)]
mod store;
#[cfg(test)]
mod telling;
