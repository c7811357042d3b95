//! 
pub mod queue;
