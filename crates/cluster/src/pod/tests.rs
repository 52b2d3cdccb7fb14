//! Render and read are each other's inverse; one pod is shown whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use proptest::prelude::*;
use serde_json::json;
use weaver::{
    Admitted, Branch, Env, Phase, Policy, Publish, RepoUrl, Resources, Tags, Terminal, Ttl, Weaver,
    WeaverId, WeaverName, WeaverSpec, Workdir,
};

use super::*;
use crate::keys;
use crate::settings::{Settings, ToolsMount};

fn settings() -> Settings {
    Settings {
        tools_image: Some("ghcr.io/loom/tools:1".to_owned()),
        server_url: Some("https://loom.example".to_owned()),
        ..Settings::default()
    }
}

fn admitted(weaver: &Weaver) -> Admitted {
    Policy::default().admit(weaver.id, weaver.spec.clone()).unwrap()
}

fn sample_pod() -> Pod {
    let sample = Weaver::sample();
    render(&admitted(&sample), sample.created_at, &settings())
}

#[test]
#[expect(clippy::too_many_lines, reason = "the pod is shown whole")]
fn a_pod_as_it_is_sent() {
    let yaml = serde_yaml_ng::to_string(&sample_pod()).unwrap();
    insta::assert_snapshot!(yaml, @r#"
    apiVersion: v1
    kind: Pod
    metadata:
      annotations:
        loom.dev/created-at: 2025-03-03T10:00:00Z
        loom.dev/expires-at: 2025-03-03T14:00:00Z
        loom.dev/owner-name: ada
        loom.dev/spec: '{"version":1,"image":"ghcr.io/ghuntley/loom/weaver:latest","lifetime_hours":4,"repo":"https://github.com/user/project","branch":"main","resources":{"cpu_millicores":null,"memory_mb":null},"tty":true,"terminal":{},"env_count":1}'
      labels:
        app: loom-weaver
        loom.dev/org: O-123
        loom.dev/owner: U-ada
        weaver-id: W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c
      name: weaver-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c
      namespace: loom-weavers
    spec:
      activeDeadlineSeconds: 173400
      automountServiceAccountToken: false
      containers:
      - command:
        - /run/loom/tools/loom-host
        - run
        - --repo
        - https://github.com/user/project
        - --branch
        - main
        - --
        env:
        - name: LOOM_WEAVER_ID
          value: W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c
        - name: NODE_ENV
          value: production
        - name: LOOM_SERVER_URL
          value: https://loom.example
        - name: HOME
          value: /home/loom
        image: ghcr.io/ghuntley/loom/weaver:latest
        name: weaver
        resources:
          limits:
            cpu: 2000m
            memory: 2Gi
          requests:
            cpu: 500m
            memory: 512Mi
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop:
            - ALL
        startupProbe:
          exec:
            command:
            - /run/loom/tools/loom-host
            - ready
          failureThreshold: 3600
          periodSeconds: 1
          timeoutSeconds: 5
        volumeMounts:
        - mountPath: /run/loom/tools
          name: tools
          readOnly: true
        - mountPath: /run/loom/run
          name: run
        - mountPath: /workspace
          name: workspace
        - mountPath: /home/loom
          name: home
        workingDir: /workspace
      enableServiceLinks: false
      hostname: weaver-3f4a5b6c
      restartPolicy: Never
      securityContext:
        fsGroup: 1000
        runAsGroup: 1000
        runAsNonRoot: true
        runAsUser: 1000
        seccompProfile:
          type: RuntimeDefault
      terminationGracePeriodSeconds: 5
      volumes:
      - image:
          reference: ghcr.io/loom/tools:1
        name: tools
      - emptyDir: {}
        name: run
      - emptyDir: {}
        name: workspace
      - emptyDir: {}
        name: home
    "#);
}

#[test]
fn an_images_own_program_is_left_as_it_is() {
    let mut sample = Weaver::sample();
    sample.spec = WeaverSpec {
        keep_entrypoint: true,
        repo: None,
        branch: None,
        command: vec!["--port".to_owned(), "$(PORT)".to_owned()],
        ..sample.spec
    };
    let settings = Settings { tools_mount: ToolsMount::Init, ..settings() };
    let pod = render(&admitted(&sample), sample.created_at, &settings);
    let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    let container = &spec["containers"][0];
    for absent in ["command", "workingDir", "startupProbe", "stdinOnce"] {
        assert!(container[absent].is_null(), "{absent}");
    }
    assert_eq!(container["args"], json!(["--port", "$$(PORT)"]));
    assert_eq!((&container["stdin"], &container["tty"]), (&json!(true), &json!(true)));
    assert_eq!(spec["volumes"], json!([{"name": "home", "emptyDir": {}}]));
    assert_eq!(container["volumeMounts"], json!([{"name": "home", "mountPath": "/home/loom"}]));
    assert!(spec["initContainers"].is_null());

    sample.spec.tty = false;
    sample.spec.workdir = Some("/srv".parse().unwrap());
    sample.spec.command.clear();
    let pod = render(&admitted(&sample), sample.created_at, &settings);
    let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
    let container = &spec["containers"][0];
    assert_eq!((&container["stdin"], &container["stdinOnce"]), (&json!(true), &json!(true)));
    assert!(container["tty"].is_null() && container["args"].is_null());
    assert_eq!(container["workingDir"], "/srv");
}

fn maybe<T: std::fmt::Debug + Clone + 'static>(
    strategy: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}

fn env() -> impl Strategy<Value = Env> {
    let key = "[a-zA-Z_][a-zA-Z0-9_.-]{0,12}|HOME|TERM|LANG|COLORTERM";
    let key = key.prop_filter("reserved", |key: &String| !key.starts_with("LOOM_"));
    let value = "[ -~\n\t$(){}é]{0,40}";
    proptest::collection::btree_map(key, value, 0..8).prop_map(|map| Env::try_from(map).unwrap())
}

fn tags() -> impl Strategy<Value = Tags> {
    let key = "[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?";
    let key = key.prop_filter("reserved", |key: &String| {
        !["loom.", "loom-", "kubernetes.", "k8s."].iter().any(|own| key.starts_with(own))
    });
    let value = "([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?";
    proptest::collection::btree_map(key, value, 0..5).prop_map(|map| Tags::try_from(map).unwrap())
}

fn terminal() -> impl Strategy<Value = Terminal> {
    let word = || maybe("[!-~]{1,20}");
    (word(), word(), word()).prop_map(|(term, colorterm, lang)| Terminal { term, colorterm, lang })
}

fn resources() -> impl Strategy<Value = Resources> {
    (maybe(10_u64..64_000), maybe(16_u64..262_144))
        .prop_map(|(cpu_millicores, memory_mb)| Resources { cpu_millicores, memory_mb })
}

fn source() -> impl Strategy<Value = (Option<RepoUrl>, Option<Branch>)> {
    let repo = "https://[a-z]{1,8}\\.example/[a-z]{1,8}/[$()a-z]{1,8}(\\.git)?";
    let repo = repo.prop_filter_map("a URL", |text| text.parse::<RepoUrl>().ok());
    let branch = "[a-z][a-z0-9]{0,8}(/[a-z$(]{1,8})?";
    let branch = branch.prop_filter_map("a branch", |text| text.parse::<Branch>().ok());
    prop_oneof![
        Just((None, None)),
        (repo, maybe(branch)).prop_map(|(repo, branch)| (Some(repo), branch)),
    ]
}

fn identity() -> impl Strategy<Value = (String, String, Option<WeaverName>)> {
    let id = "[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?";
    let name = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
    (id, id, maybe(name.prop_map(|text| text.parse().unwrap())))
        .prop_map(|(org, owner, name)| (format!("O-{org}"), format!("U-{owner}"), name))
}

fn spec() -> impl Strategy<Value = WeaverSpec> {
    let image = "[a-z]{1,8}(/[a-z]{1,8}){0,2}(:[a-z0-9]{1,8})?";
    let workdir = maybe("/[a-z$( é]{0,12}".prop_map(|text| text.parse::<Workdir>().unwrap()));
    let command = proptest::collection::vec("[!-~][ -~\n$()é-]{0,12}|--", 0..5);
    let ports = proptest::collection::vec(1_u16.., 0..3).prop_map(|inside| {
        let port = |(container, host)| Publish { host, container };
        inside.into_iter().zip(8000..).map(port).collect::<Vec<_>>()
    });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), ports);
    let simple = (image, "[^\0]{0,20}", flags, 1_u64..=48, workdir, command);
    (identity(), tags(), env(), source(), resources(), terminal(), simple).prop_map(
        |((org, owner, name), tags, env, (repo, branch), resources, terminal, simple)| {
            let (image, owner_name, flags, hours, workdir, command) = simple;
            let (tty, root, kept, ports) = flags;
            WeaverSpec {
                keep_entrypoint: kept && repo.is_none(),
                image: image.parse().unwrap(),
                org: org.parse().unwrap(),
                owner: owner.parse().unwrap(),
                ttl: Ttl::from_hours(hours).unwrap(),
                owner_name,
                name,
                tags,
                env,
                repo,
                branch,
                command,
                workdir,
                resources,
                tty,
                root,
                ports,
                terminal,
            }
        },
    )
}

proptest! {
    #[test]
    fn read_undoes_render(
        spec in spec(), uuid in any::<u128>(), second in 0_i64..4_000_000_000, copies in any::<bool>()
    ) {
        let id = WeaverId::from_uuid(uuid::Uuid::from_u128(uuid));
        let created_at = Timestamp::from_second(second).unwrap();
        let admitted = Policy { root: true, publish: true, ..Policy::default() }.admit(id, spec.clone()).unwrap();
        let tools_mount = if copies { ToolsMount::Init } else { ToolsMount::Image };
        let settings = Settings { tools_mount, ..settings() };
        let pod = render(&admitted, created_at, &settings);
        // As it comes back from a server.
        let pod: Pod = serde_json::from_slice(&serde_json::to_vec(&pod).unwrap()).unwrap();
        let weaver = read(&pod).unwrap().weaver;
        prop_assert_eq!(&weaver.spec, &spec);
        prop_assert_eq!((weaver.id, weaver.created_at), (id, created_at));
        prop_assert_eq!((weaver.phase, weaver.exit_code), (Phase::Pending, None));
    }
}

#[test]
fn created_at_is_cut_to_whole_seconds() {
    let sample = Weaver::sample();
    let odd = sample.created_at + jiff::SignedDuration::from_millis(900);
    let found = read(&render(&admitted(&sample), odd, &settings())).unwrap();
    assert_eq!(found.weaver.created_at, sample.created_at);
    assert_eq!(found.weaver.expires_at().to_string(), "2025-03-03T14:00:00Z");
}

#[test]
fn the_annotation_holds_no_env() {
    let mut weaver = Weaver::sample();
    let env = BTreeMap::from([("DB".to_owned(), "hunter2".to_owned())]);
    weaver.spec.env = Env::try_from(env).unwrap();
    let pod = render(&admitted(&weaver), weaver.created_at, &settings());
    let meta = serde_json::to_string(&pod.metadata).unwrap();
    assert!(!meta.contains("hunter2"), "{meta}");
}

#[test]
fn what_a_webhook_adds_is_not_the_users() {
    let mut pod = sample_pod();
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    let added = EnvVar { name: "AWS_REGION".to_owned(), ..EnvVar::default() };
    container.env.as_mut().unwrap().push(added.clone());
    container.env.as_mut().unwrap().insert(0, added);
    container.image = Some("mirror.example/weaver:latest".to_owned());
    assert_eq!(read(&pod).unwrap().weaver.spec, Weaver::sample().spec);
}

#[test]
fn the_init_container_replaces_the_image_volume() {
    let sample = Weaver::sample();
    let settings = Settings { tools_mount: ToolsMount::Init, ..settings() };
    let spec = render(&admitted(&sample), sample.created_at, &settings).spec.unwrap();
    let init = &spec.init_containers.unwrap()[0];
    assert_eq!(init.image.as_deref(), Some("ghcr.io/loom/tools:1"));
    assert!(spec.volumes.unwrap().iter().all(|volume| volume.image.is_none()));
    assert_eq!(spec.containers[0].name, "weaver");
}

/// Changes one label or annotation and says how the pod reads then.
fn changed(key: &str, value: Option<&str>) -> Result<(), Unreadable> {
    let mut pod = sample_pod();
    let meta = &mut pod.metadata;
    let map = if meta.labels.as_ref().is_some_and(|labels| labels.contains_key(key)) {
        meta.labels.as_mut()
    } else {
        meta.annotations.as_mut()
    };
    match value {
        Some(value) => map.unwrap().insert(key.to_owned(), value.to_owned()),
        None => map.unwrap().remove(key),
    };
    read(&pod).map(drop)
}

#[test]
fn abuse_broken_pods_are_left_out() {
    for (key, value, code) in [
        (keys::APP, None, "foreign"),
        (keys::APP, Some("other"), "foreign"),
        (keys::WEAVER_ID, None, "foreign"),
        (keys::WEAVER_ID, Some("W-1"), "broken"),
        (keys::WEAVER_ID, Some("W-00000000-0000-0000-0000-000000000000"), "foreign"),
        (keys::ORG, None, "broken"),
        (keys::ORG, Some("x"), "broken"),
        (keys::OWNER, None, "broken"),
        (keys::OWNER_NAME, None, "broken"),
        (keys::CREATED_AT, None, "broken"),
        (keys::CREATED_AT, Some("yesterday"), "broken"),
        (keys::CREATED_AT, Some("2025-03-03T10:00:00.5Z"), "broken"),
        (keys::EXPIRES_AT, None, "broken"),
        (keys::EXPIRES_AT, Some("2025-03-03T14:00:01Z"), "broken"),
        (keys::SPEC, None, "broken"),
        (keys::SPEC, Some(""), "broken"),
        (keys::SPEC, Some("{}"), "broken"),
        (keys::SPEC, Some("[1]"), "broken"),
        (keys::SPEC, Some(r#"{"version":1}"#), "broken"),
        (keys::SPEC, Some(r#"{"version":2,"image":{"new":"shape"}}"#), "newer"),
        (keys::SPEC, Some(&" ".repeat(70_000)), "broken"),
    ] {
        let unreadable = changed(key, value).expect_err(key);
        assert_eq!(unreadable.code(), code, "{key}={value:?}: {unreadable}");
    }
}

#[test]
fn abuse_foreign_pods_are_left_out() {
    assert_eq!(read(&Pod::default()).unwrap_err().code(), "foreign");
    let mut pod = sample_pod();
    pod.spec.as_mut().unwrap().containers[0].command = Some(vec!["sleep".to_owned()]);
    assert_eq!(read(&pod).unwrap_err().code(), "foreign");
    let mut pod = sample_pod();
    pod.spec.as_mut().unwrap().containers[0].name = "other".to_owned();
    assert_eq!(read(&pod).unwrap_err().code(), "foreign");
    let mut pod = sample_pod();
    pod.spec.as_mut().unwrap().containers[0].env = None;
    assert_eq!(read(&pod).unwrap_err().code(), "broken");
}
