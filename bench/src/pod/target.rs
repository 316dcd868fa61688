//! What the path of a request asks for. It must not know of sockets and of versions of HTTP.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Who answers.
    Name,
    /// So many bytes of the pattern.
    Bytes(u32),
    /// Something that is not there.
    Nothing,
}

/// What a path asks for, and what stands behind its `?`, which the answer tells again.
pub(crate) fn parse(path: &[u8]) -> (Target, Option<&[u8]>) {
    let mark = path.iter().position(|byte| *byte == b'?');
    let (path, query) = match mark {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    };
    (target(path), query)
}

fn target(path: &[u8]) -> Target {
    if path == b"/" {
        return Target::Name;
    }
    let count = path.strip_prefix(b"/bytes/");
    let count = count.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    count.map_or(Target::Nothing, Target::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_they_want() {
        assert_eq!(parse(b"/"), (Target::Name, None));
        assert_eq!(parse(b"/?7"), (Target::Name, Some(&b"7"[..])));
        assert_eq!(
            parse(b"/bytes/40000?a?b"),
            (Target::Bytes(40_000), Some(&b"a?b"[..]))
        );
        for path in [
            &b"/bytes/"[..],
            b"/bytes/-1",
            b"/bytes/4294967296",
            b"*",
            b"/x",
            b"",
        ] {
            assert_eq!(parse(path), (Target::Nothing, None));
        }
    }
}
