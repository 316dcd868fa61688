//! Medians, ratios within rounds, spreads, and when a difference is more than noise. Functions of values.
