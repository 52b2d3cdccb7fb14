//! What a store owes to those who wrote before it was opened.

use super::*;

fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("loom-store-{}", uuid::Uuid::new_v4()))
}

/// A process that was killed lets go of its locks only when every child has that it forked and
/// that has not executed a program yet.
#[test]
fn the_lock_of_who_is_just_leaving_is_waited_for() {
    let dir = scratch();
    let store = Store::open(&dir).unwrap();
    let child = store._lock.try_clone().unwrap();
    drop(store);
    let opened = std::thread::scope(|scope| {
        let opening = scope.spawn(|| Store::open(&dir));
        for _ in 0..5 {
            std::thread::sleep(LOCK_PAUSE);
            assert!(!opening.is_finished(), "it waits");
        }
        drop(child);
        opening.join().unwrap()
    });
    assert!(opened.is_ok());
    assert!(matches!(Store::open(&dir), Err(OpenError::Locked(_))), "it is ours now");
}

fn key(name: &str) -> Key {
    Key::new(Resource::ConfigMaps, "default", name)
}

fn config_map(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "default" }, "data": { "is": name } })
}

/// Makes a store with a few changes, and returns its log without and with the last of them.
fn logs(last: impl FnOnce(&Store)) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let dir = scratch();
    let store = Store::open(&dir).unwrap();
    for name in ["first", "second"] {
        store.create(key(name), config_map(name)).unwrap();
    }
    let before = fs::read(dir.join("objects.log")).unwrap();
    last(&store);
    let after = fs::read(dir.join("objects.log")).unwrap();
    (dir, before, after)
}

fn names(store: &Store) -> Vec<String> {
    let objects = store.list(Resource::ConfigMaps, "default").0;
    objects.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Opens the store with this log, checks what is there, and that writing goes on.
fn opens_with(dir: &Path, log: &[u8], expected: &[&str], case: &str) {
    fs::write(dir.join("objects.log"), log).unwrap();
    let store = Store::open(dir).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert_eq!(names(&store), expected, "{case}");
    let before = store.version();
    let made = store.create(key("zz-after"), config_map("zz-after")).unwrap();
    assert!(version_of(&made) > before, "{case}");
    drop(store);
    let again = Store::open(dir).unwrap();
    assert_eq!(names(&again), [expected, &["zz-after"]].concat(), "{case}: and again");
}

#[test]
fn power_lost_in_the_last_write_leaves_it_whole_or_absent() {
    let (dir, before, after) =
        logs(|store| drop(store.create(key("third"), config_map("third")).unwrap()));
    for end in before.len()..after.len() {
        opens_with(&dir, &after[..end], &["first", "second"], &format!("cut at {end}"));
        let zeros = [&after[..end], &vec![0; after.len() - end]].concat();
        opens_with(&dir, &zeros, &["first", "second"], &format!("zeros from {end}"));
        let mut flipped = after.clone();
        flipped[end] ^= 0x41;
        opens_with(&dir, &flipped, &["first", "second"], &format!("flipped at {end}"));
    }
    opens_with(&dir, &after, &["first", "second", "third"], "whole");
    opens_with(&dir, &[&after[..], &[0; 4096]].concat(), &["first", "second", "third"], "zeros");
}

#[test]
fn power_lost_in_a_deletion_leaves_the_object_or_not() {
    let delete = |store: &Store| {
        let decided = store.update::<WriteError>(&key("first"), |_| Ok(Decision::Delete));
        assert!(decided.unwrap().deleted);
    };
    let (dir, before, after) = logs(delete);
    for end in before.len()..after.len() {
        opens_with(&dir, &after[..end], &["first", "second"], &format!("cut at {end}"));
    }
    opens_with(&dir, &after, &["second"], "whole");
}

#[test]
fn damage_in_the_middle_is_told_and_forgets_nothing() {
    let (dir, _, after) = logs(|_| ());
    let second = after.len() / 2;
    for at in 8..second - 16 {
        let mut flipped = after.clone();
        flipped[at] ^= 0x41;
        fs::write(dir.join("objects.log"), &flipped).unwrap();
        let error = Store::open(&dir).expect_err("an acknowledged object would be gone");
        let OpenError::Io(_, cause) = error else { panic!("{error}") };
        assert!(cause.to_string().contains("damaged at byte 8 "), "{at}: {cause}");
        assert_eq!(fs::read(dir.join("objects.log")).unwrap(), flipped, "byte {at}");
    }
}
