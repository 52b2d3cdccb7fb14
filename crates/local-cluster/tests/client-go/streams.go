package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	exit "k8s.io/client-go/util/exec"
)

var streams = []step{
	{"a pod runs", running},
	{"programs are run in it", execs},
	{"its log is read", logs},
	{"its port is led here", ports},
	{"its status is written", statuses},
	{"it is changed by who speaks protobuf", protobuf},
	{"it is evicted", evicted},
	{"it ends", ended},
}

const script = `mkdir -p /tmp/web; echo page >/tmp/web/page; busybox httpd -p 127.0.0.1:8080 -h /tmp/web
n=0; while [ $n -lt 5 ]; do n=$((n + 1)); echo "line $n"; done; touch /tmp/ready; while [ ! -e /tmp/end ]; do sleep 0.1; done; echo over; exit 3`

func (s *steps) pod(name, script string) *core.Pod {
	grace := int64(0)
	return &core.Pod{ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: core.PodSpec{
		RestartPolicy: core.RestartPolicyNever, TerminationGracePeriodSeconds: &grace,
		Containers: []core.Container{{Name: "main", Image: s.image, ImagePullPolicy: core.PullIfNotPresent, Command: []string{"sh", "-c", script},
			ReadinessProbe: &core.Probe{ProbeHandler: core.ProbeHandler{Exec: &core.ExecAction{Command: []string{"test", "-e", "/tmp/ready"}}}, PeriodSeconds: 1}}},
	}}
}

func running(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	stream, err := pods.Watch(ctx, meta.ListOptions{FieldSelector: "metadata.name=one"})
	must(err)
	defer stream.Stop()
	made, err := pods.Create(ctx, s.pod("one", script), meta.CreateOptions{})
	must(err)
	say("%s %s %s", made.Status.Phase, made.Status.QOSClass, made.Spec.Containers[0].TerminationMessagePath)
	for event := range stream.ResultChan() {
		pod := event.Object.(*core.Pod)
		ready := false
		for _, condition := range pod.Status.Conditions {
			ready = ready || condition.Type == core.PodReady && condition.Status == core.ConditionTrue
		}
		if ready {
			state := pod.Status.ContainerStatuses[0]
			say("%s, ready: %v, started: %v, restarts: %d", pod.Status.Phase, state.Ready, *state.Started, state.RestartCount)
			say("has a node: %v, an address: %v, addresses: %d", pod.Spec.NodeName != "", pod.Status.PodIP != "", len(pod.Status.PodIPs))
			return
		}
	}
}

func (s *steps) exec(ctx context.Context, options *core.PodExecOptions, stream remotecommand.StreamOptions) string {
	request := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name("one").SubResource("exec").VersionedParams(options, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(s.config, "GET", request.URL().String())
	must(err)
	err = executor.StreamWithContext(ctx, stream)
	var code exit.CodeExitError
	if errors.As(err, &code) {
		return fmt.Sprintf("code %d: %s", code.Code, code.Err)
	}
	return told(err)
}

func execs(s *steps, ctx context.Context, say func(string, ...any)) {
	var out, errs bytes.Buffer
	run := func(input io.Reader, words ...string) {
		out.Reset()
		errs.Reset()
		options := &core.PodExecOptions{Container: "main", Command: words, Stdin: input != nil, Stdout: true, Stderr: true}
		end := s.exec(ctx, options, remotecommand.StreamOptions{Stdin: input, Stdout: &out, Stderr: &errs})
		say("%v: %s, out %q, err %q", words, end, out.String(), errs.String())
	}
	run(nil, "sh", "-c", "echo out; echo err >&2")
	run(nil, "sh", "-c", "exit 7")
	run(strings.NewReader("input"), "cat")
	run(strings.NewReader(""), "sh", "-c", "cat; echo end")
	run(nil, "sh", "-c", "kill -9 $$")
	large := strings.Repeat("0123456789abcdef", 1<<16)
	out.Reset()
	end := s.exec(ctx, &core.PodExecOptions{Command: []string{"cat"}, Stdin: true, Stdout: true}, remotecommand.StreamOptions{Stdin: strings.NewReader(large), Stdout: &out})
	say("a MiB through cat: %s, whole: %v", end, out.String() == large)
	out.Reset()
	sizes := make(chan remotecommand.TerminalSize, 1)
	sizes <- remotecommand.TerminalSize{Width: 91, Height: 17}
	// Nothing is typed, but somebody may.
	keyboard, typist := io.Pipe()
	defer typist.Close()
	end = s.exec(ctx, &core.PodExecOptions{Command: []string{"sh", "-c", "until [ \"$(stty size 2>/dev/null)\" = '17 91' ]; do :; done; echo sized"}, Stdin: true, Stdout: true, TTY: true},
		remotecommand.StreamOptions{Stdin: keyboard, Stdout: &out, Tty: true, TerminalSizeQueue: queue(sizes)})
	say("on a terminal: %s, %q", end, out.String())
	end = s.exec(ctx, &core.PodExecOptions{Container: "nope", Command: []string{"ls"}, Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
	say("%s", end)
	end = s.exec(ctx, &core.PodExecOptions{Stdout: true}, remotecommand.StreamOptions{Stdout: &out})
	say("%s", end)
}

type queue chan remotecommand.TerminalSize

func (q queue) Next() *remotecommand.TerminalSize {
	size, open := <-q
	if !open {
		return nil
	}
	return &size
}

func logs(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	log := func(options core.PodLogOptions) string {
		stream, err := pods.GetLogs("one", &options).Stream(ctx)
		if err != nil {
			return told(err)
		}
		defer stream.Close()
		return read(stream)
	}
	two, bytes, hour, no := int64(2), int64(9), int64(3600), int64(-1)
	say("%q", log(core.PodLogOptions{}))
	say("%q", log(core.PodLogOptions{TailLines: &two}))
	say("%q", log(core.PodLogOptions{LimitBytes: &bytes}))
	say("%q", log(core.PodLogOptions{SinceSeconds: &hour, TailLines: &two}))
	say("%s", log(core.PodLogOptions{TailLines: &no}))
	say("%s", log(core.PodLogOptions{Container: "nope"}))
	say("%s", log(core.PodLogOptions{Previous: true}))
	line, text, _ := strings.Cut(log(core.PodLogOptions{Timestamps: true, TailLines: &two}), " ")
	_, err := time.Parse(time.RFC3339Nano, line)
	say("with times: %v %v", err == nil, strings.HasPrefix(text, "line 4\n"))
	follow, err := pods.GetLogs("one", &core.PodLogOptions{Follow: true, TailLines: &two}).Stream(ctx)
	must(err)
	first := make([]byte, len("line 4\nline 5\n"))
	_, err = io.ReadFull(follow, first)
	must(err)
	say("%q, and then it is open", first)
	follow.Close()
}

func ports(s *steps, ctx context.Context, say func(string, ...any)) {
	request := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.namespace).Name("one").SubResource("portforward")
	dialer, err := portforward.NewSPDYOverWebsocketDialer(request.URL(), s.config)
	must(err)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	must(err)
	over := make(chan error, 1)
	go func() { over <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-over:
		must(err)
	}
	given, err := forwarder.GetPorts()
	must(err)
	for range 3 {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/page", given[0].Local))
		must(err)
		say("%s %q", answer.Status, read(answer.Body))
	}
	close(stop)
	say("%s", told(<-over))
}

func statuses(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	body := []byte(`{"status": {"conditions": [{"type": "example.com/Fine", "status": "True"}]}}`)
	pod, err := pods.Patch(ctx, "one", types.StrategicMergePatchType, body, meta.PatchOptions{}, "status")
	must(err)
	for _, condition := range pod.Status.Conditions {
		if condition.Type == "example.com/Fine" {
			say("%s %s", condition.Type, condition.Status)
		}
	}
	body = []byte(`{"status": {"message": "ignored"}}`)
	pod, err = pods.Patch(ctx, "one", types.MergePatchType, body, meta.PatchOptions{})
	must(err)
	say("%q", pod.Status.Message)
	body = []byte(`{"spec": {"activeDeadlineSeconds": 3600}}`)
	_, err = pods.Patch(ctx, "one", types.MergePatchType, body, meta.PatchOptions{})
	say("a deadline: %s", told(err))
	_, err = pods.Update(ctx, s.pod("one", "other"), meta.UpdateOptions{})
	say("another spec: %v", apierrors.IsInvalid(err))
}

func protobuf(s *steps, ctx context.Context, say func(string, ...any)) {
	config := rest.CopyConfig(s.config)
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	must(err)
	pods := client.CoreV1().Pods(s.namespace)
	pod, err := pods.Get(ctx, "one", meta.GetOptions{})
	must(err)
	pod.Labels["changed"] = "yes"
	pod, err = pods.Update(ctx, pod, meta.UpdateOptions{})
	say("%s", told(err))
	say("%v", pod.Labels)
}

func evicted(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	must2(pods.Create(ctx, s.pod("two", "exec sleep 999"), meta.CreateOptions{}))
	s.until(ctx, "it runs", func() bool {
		pod, err := pods.Get(ctx, "two", meta.GetOptions{})
		must(err)
		return pod.Status.Phase == core.PodRunning
	})
	say("%s", told(pods.EvictV1(ctx, &policy.Eviction{ObjectMeta: named("two")})))
	s.until(ctx, "it is gone", func() bool {
		_, err := pods.Get(ctx, "two", meta.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	say("gone")
}

func ended(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	follow, err := pods.GetLogs("one", &core.PodLogOptions{Follow: true}).Stream(ctx)
	must(err)
	s.exec(ctx, &core.PodExecOptions{Command: []string{"touch", "/tmp/end"}, Stdout: true}, remotecommand.StreamOptions{Stdout: io.Discard})
	say("%q", read(follow))
	var pod *core.Pod
	s.until(ctx, "it has ended", func() bool {
		pod, err = pods.Get(ctx, "one", meta.GetOptions{})
		must(err)
		return pod.Status.Phase == core.PodFailed
	})
	state := pod.Status.ContainerStatuses[0].State.Terminated
	say("%s %d %s", pod.Status.Phase, state.ExitCode, state.Reason)
	must(pods.Delete(ctx, "one", meta.DeleteOptions{}))
	s.until(ctx, "it is gone", func() bool {
		_, err := pods.Get(ctx, "one", meta.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	say("gone")
}
