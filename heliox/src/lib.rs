//! heliox
