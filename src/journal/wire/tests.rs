//! What a checkpoint says of targets comes back.

use super::*;

#[test]
fn each_kind_of_target_comes_back_and_the_first_two_are_the_bytes_they_were() {
    #[derive(Serialize)]
    struct Before {
        service: Option<String>,
        scrape: bool,
        source: String,
        address: String,
    }
    for kind in [TargetKind::Scrape, TargetKind::Probe, TargetKind::Query] {
        let key = TargetKey { service: Some("api".into()), kind, source: "app".into(), address: "a".into() };
        let bytes = postcard::to_stdvec(&key_frame(&key)).unwrap();
        assert_eq!(key_of(postcard::from_bytes(&bytes).unwrap()), key);
        let scrape = kind == TargetKind::Scrape;
        let (service, source, address) = (Some("api".to_owned()), "app".to_owned(), "a".to_owned());
        let before = postcard::to_stdvec(&Before { service, scrape, source, address }).unwrap();
        assert_eq!(bytes == before, kind != TargetKind::Query, "{kind:?}");
    }
}
