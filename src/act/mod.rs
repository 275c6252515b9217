//! Carries out steps, one file per kind.

pub mod template;
