//! The graph, its operators and the passes that rewrite it.
