//! Taking part in a container's own streams.

use std::fs::File;
use std::io::{Read, Write};

use libtest_mimic::Failed;
use pod_runtime::Error;
use pod_runtime::spec::AttachSpec;

use super::fixture::{Bench, code, end_of, pod, sh};
use super::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("attached_one_hears_and_is_heard", Needs::Nothing, attached_one_hears_and_is_heard),
    ("leaving_a_container_does_it_no_harm", Needs::Nothing, leaving_does_no_harm),
    ("two_are_attached_to_one_terminal", Needs::Nothing, two_are_attached_to_one_terminal),
    ("who_takes_nothing_is_let_go", Needs::Nothing, who_takes_nothing_is_let_go),
];

fn spec(stdin: bool) -> AttachSpec {
    AttachSpec { container: "main".to_owned(), stdin }
}

/// Reads until the text has come.
fn read_to(mut from: &File, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        let mut chunk = [0; 100];
        let count = from.read(&mut chunk).unwrap();
        assert!(count > 0, "{text:?} never came: {read:?}");
        read.push_str(std::str::from_utf8(&chunk[..count]).unwrap());
    }
    read
}

fn attached_one_hears_and_is_heard() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("cat; echo over >&2; exit 3");
    main.stdin = true;
    let pod = bench.running(&pod(main));
    let mut attached = pod.attach(&spec(true)).unwrap();
    assert!(pod.attach(&spec(false)).unwrap().stdin.is_none());
    let mut stdin = File::from(attached.stdin.take().unwrap());
    stdin.write_all(b"from outside\n").unwrap();
    let (mut out, mut err) = (File::from(attached.stdout.try_clone()?), String::new());
    assert_eq!(read_to(&out, "\n"), "from outside\n");
    drop(stdin);
    attached.control.write_all(b"\"closeStdin\"\n").unwrap();
    File::from(attached.stderr.take().unwrap()).read_to_string(&mut err).unwrap();
    assert_eq!((err.as_str(), out.read(&mut [0]).unwrap()), ("over\n", 0));
    assert_eq!(attached.wait().unwrap(), 3);
    assert_eq!(code(&end_of(&pod)), 3);
    assert_eq!(bench.output(pod.id(), "main"), "from outside\nover");
    assert!(matches!(pod.attach(&spec(false)), Err(Error::NotRunning(_) | Error::Gone { .. })));
    Ok(())
}

fn leaving_does_no_harm() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("read a; echo 1 $a; read b; echo 2 $b");
    main.stdin = true;
    let pod = bench.running(&pod(main));
    for word in ["one", "two"] {
        let attached = pod.attach(&spec(true)).unwrap();
        let stdin = File::from(attached.stdin.unwrap());
        (&stdin).write_all(format!("{word}\n").as_bytes()).unwrap();
        read_to(&File::from(attached.stdout), word);
    }
    assert_eq!(code(&end_of(&pod)), 0);
    assert_eq!(bench.output(pod.id(), "main"), "1 one\n2 two");
    Ok(())
}

fn two_are_attached_to_one_terminal() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("until [ \"$(stty size)\" = '31 97' ]; do sleep 0.01; done; echo resized; \
                       read word; echo said $word");
    (main.stdin, main.tty) = (true, true);
    let pod = bench.running(&pod(main));
    let (one, two) = (pod.attach(&spec(true)).unwrap(), pod.attach(&spec(true)).unwrap());
    assert!(one.stderr.is_none());
    let [first, second] = [&one, &two].map(|it| File::from(it.stdout.try_clone().unwrap()));
    one.resize(31, 97).unwrap();
    read_to(&first, "resized");
    read_to(&second, "resized");
    File::from(two.stdin.as_ref().unwrap().try_clone()?).write_all(b"hello\n").unwrap();
    read_to(&first, "said hello");
    assert_eq!((one.wait().unwrap(), two.wait().unwrap()), (0, 0));
    Ok(())
}

fn who_takes_nothing_is_let_go() -> Result<(), Failed> {
    let bench = Bench::new();
    let mut main = sh("read go; head -c 300000 /dev/zero | tr '\\0' x; echo; echo over");
    main.stdin = true;
    let pod = bench.running(&pod(main));
    let asleep = pod.attach(&spec(true)).unwrap();
    File::from(asleep.stdin.as_ref().unwrap().try_clone()?).write_all(b"go\n").unwrap();
    assert_eq!(code(&end_of(&pod)), 0);
    assert!(bench.output(pod.id(), "main").ends_with("\nover"));
    Ok(())
}
