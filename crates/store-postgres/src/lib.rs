//! The state of Partitura's workflows in Postgres.
