//! The #[service] and #[workflow] macros of Partitura.
