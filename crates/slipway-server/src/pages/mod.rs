//! Pages.

mod chart;
mod format;
mod icons;
mod words;
