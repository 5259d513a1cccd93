//! Everything that is asked of GitHub, against the lab's GitHub over real HTTP and real git.

#[cfg(test)]
mod auth;
#[cfg(test)]
mod clone;
#[cfg(test)]
mod common;
#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod nonsense;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod tags;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod watch;
