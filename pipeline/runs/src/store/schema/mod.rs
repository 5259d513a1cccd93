//! The tables of both databases, as text: what each version adds, and how it is taken back.

mod down;
pub(super) mod postgres;
pub(super) mod sqlite;
