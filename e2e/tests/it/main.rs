//! Stories with real processes, the real Docker Engine and real files.
