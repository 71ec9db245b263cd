//! Opening and inspecting a directory.

use super::*;

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = || LogConfig {
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap();
    let error = Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap_err();
    assert!(matches!(error, LogOpenError::Locked { .. }));
    let text = error.to_string();
    assert!(
        text.contains(dir.path().to_str().unwrap()) && text.contains("another process"),
        "{text}"
    );
    drop(log);
    Log::open(Arc::new(StdEnv::new()), dir.path(), config()).unwrap();
}

#[test]
fn a_newer_version_is_rejected_in_one_sentence() {
    let env = MemEnv::new(13);
    let body = "forebay-log\nversion 2\nvolume 00000000000000ff\n";
    let file = format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes()));
    env.put(&Path::new(DIR).join("volume"), file.into_bytes());
    let opened = Log::open(Arc::new(env), Path::new(DIR), manual());
    let error = opened.unwrap_err();
    assert!(
        matches!(
            error,
            LogOpenError::Version {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("/data"));
}

#[test]
fn a_read_only_directory_error_tells_what_to_do_and_inspection_works() {
    let env = MemEnv::new(14);
    let log = open(&env, manual());
    let stream = log.stream("s").unwrap();
    log.append(block(stream, b"x")).unwrap().wait().unwrap();
    log.shutdown();
    env.set_read_only(true);
    let error = Log::open(Arc::new(env.clone()), Path::new(DIR), manual()).unwrap_err();
    assert!(matches!(error, LogOpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("mount it writable"), "{error}");
    let inspection = LogInspection::open(Arc::new(env), Path::new(DIR)).unwrap();
    assert_eq!(inspection.find("s").unwrap().records, 1);
}

#[test]
fn settings_out_of_range_are_rejected_by_name() {
    let config = LogConfig {
        segment_size: 1,
        ..LogConfig::default()
    };
    let error = Log::open(Arc::new(MemEnv::new(0)), Path::new(DIR), config).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`segment_size` is 1, allowed is 4KB to 2GB")
    );
}

#[test]
fn a_running_log_can_be_inspected() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        min_free_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open(Arc::new(StdEnv::new()), dir.path(), config).unwrap();
    let stream = log.stream("s").unwrap();
    for i in 0..10_u8 {
        log.append(block(stream, &[i])).unwrap().wait().unwrap();
    }
    let inspection = LogInspection::open_dir(dir.path()).unwrap();
    assert_eq!(inspection.streams(), log.streams());
    assert_eq!(inspection.reader(stream, 4).unwrap().count(), 6);
    let verified = inspection.verify(|done, all| assert!(done <= all));
    assert!(
        verified.is_sound() && verified.sound_blocks >= 10,
        "{verified:?}"
    );
    assert!(matches!(
        LogInspection::open_dir(Path::new("/nowhere")),
        Err(LogOpenError::NoLog { .. })
    ));
}

#[test]
fn opening_and_closing_writes_no_segments() {
    let env = MemEnv::new(17);
    for _ in 0..5 {
        open(&env, manual()).shutdown();
    }
    assert_eq!(segment_files(&env), 0);
}
