//! Whether the kernel drops what comes in by a link that it would not answer by.

/// The larger of the link's own setting and that of all links counts; 1 is strict, 2 loose.
pub(super) fn is_strict(link: &str) -> bool {
    let setting = |scope: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or_default()
    };
    setting(link).max(setting("all")) == 1
}
