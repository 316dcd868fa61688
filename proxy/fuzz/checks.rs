//! What must hold for any input, however hostile. Shared by the fuzz target and the test that runs its seeds.

use podline_api::ProxyHeader;
use podline_proxy::proxy_header::{MAX_LENGTH, Parsed, parse, write};

/// Bytes from the network: taken or refused, never a panic, and alike in whatever pieces they come; who was announced
/// is announced again by the header that is written of it.
pub(crate) fn proxy_header(data: &[u8]) {
    let whole = parse(data);
    // All short prefixes, and some of the long ones: a header has few fields, and they stand at its beginning.
    let far = (data.len() / 64).max(1);
    let ends = (0..data.len().min(256)).chain((256..data.len()).step_by(far));
    let pieces = ends.map(|end| (end, parse(&data[..end])));
    for (end, parsed) in pieces {
        let is_early = matches!(whole, Parsed::Done { length, .. } if end < length);
        assert!(
            parsed == Parsed::NeedMore || parsed == whole && !is_early,
            "{end} bytes: {parsed:?} and then {whole:?}"
        );
    }
    assert!(whole != Parsed::NeedMore || data.len() < MAX_LENGTH);
    let Parsed::Done { length, announced } = whole else {
        return;
    };
    assert!(length <= data.len() && length <= MAX_LENGTH);
    let v2 = |crc32c, unique_id| ProxyHeader::V2 { crc32c, unique_id };
    for form in [ProxyHeader::V1, v2(false, false), v2(true, true)] {
        let written = write(form, announced, 1);
        let length = written.as_bytes().len();
        assert_eq!(
            parse(written.as_bytes()),
            Parsed::Done { length, announced }
        );
    }
}
