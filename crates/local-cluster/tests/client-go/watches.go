package main

import (
	"context"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

var watches = []step{
	{"a watch tells of every change", changes},
	{"an informer is as up to date as the cluster", informer},
	{"one leads at a time", leaders},
	{"events are recorded", recorded},
}

func changes(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	list, err := maps.List(ctx, meta.ListOptions{LabelSelector: "of=watch"})
	must(err)
	stream, err := maps.Watch(ctx, meta.ListOptions{LabelSelector: "of=watch", ResourceVersion: list.ResourceVersion})
	must(err)
	defer stream.Stop()
	_, err = maps.Create(ctx, configMap("watched", map[string]string{"of": "watch"}), meta.CreateOptions{})
	must(err)
	_, err = maps.Create(ctx, configMap("unwatched", nil), meta.CreateOptions{})
	must(err)
	for _, body := range []string{`{"data": {"a": "2"}}`, `{"metadata": {"labels": {"of": "nothing"}}}`, `{"metadata": {"labels": {"of": "watch"}}}`} {
		_, err = maps.Patch(ctx, "watched", types.MergePatchType, []byte(body), meta.PatchOptions{})
		must(err)
	}
	must(maps.Delete(ctx, "watched", meta.DeleteOptions{}))
	for range 5 {
		event := <-stream.ResultChan()
		object := event.Object.(*core.ConfigMap)
		say("%s %s %v %v", event.Type, object.Name, object.Labels, object.Data)
	}
	// Without a version it begins with what is there.
	must2(maps.Create(ctx, configMap("there", map[string]string{"of": "watch"}), meta.CreateOptions{}))
	begin, err := maps.Watch(ctx, meta.ListOptions{LabelSelector: "of=watch"})
	must(err)
	event := <-begin.ResultChan()
	say("%s %s", event.Type, event.Object.(*core.ConfigMap).Name)
	begin.Stop()
	seconds, sendInitial := int64(1), true
	short, err := maps.Watch(ctx, meta.ListOptions{FieldSelector: "metadata.name=nobody", TimeoutSeconds: &seconds})
	must(err)
	_, open := <-short.ResultChan()
	say("ends when its time is over: %v", !open)
	initial, err := maps.Watch(ctx, meta.ListOptions{LabelSelector: "of=watch", SendInitialEvents: &sendInitial, AllowWatchBookmarks: true, ResourceVersionMatch: meta.ResourceVersionMatchNotOlderThan})
	must(err)
	for event := range initial.ResultChan() {
		object := event.Object.(*core.ConfigMap)
		say("%s %s %v", event.Type, object.Name, object.Annotations)
		if event.Type == watch.Bookmark {
			break
		}
	}
	initial.Stop()
	_, err = maps.Watch(ctx, meta.ListOptions{ResourceVersion: "nonsense"})
	say("%s", told(err))
}

func must2[T any](_ T, err error) { must(err) }

func informer(s *steps, ctx context.Context, say func(string, ...any)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	factory := informers.NewSharedInformerFactoryWithOptions(s.client, 0, informers.WithNamespace(s.namespace))
	lister, seen := factory.Core().V1().ConfigMaps().Lister(), make(chan string, 100)
	tell := func(word string, object any) {
		if object, ok := object.(*core.ConfigMap); ok && object.Name == "informed" {
			seen <- fmt.Sprintf("%s %v", word, object.Data)
		}
	}
	must2(factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("added", object) },
		UpdateFunc: func(_, object any) { tell("updated", object) },
		DeleteFunc: func(object any) { tell("deleted", object) },
	}))
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		say("synced: %v", synced)
	}
	must2(maps.Create(ctx, configMap("informed", nil), meta.CreateOptions{}))
	say("%s", <-seen)
	must2(maps.Patch(ctx, "informed", types.MergePatchType, []byte(`{"data": {"a": "2"}}`), meta.PatchOptions{}))
	say("%s", <-seen)
	found, err := lister.ConfigMaps(s.namespace).Get("informed")
	must(err)
	say("cached: %v", found.Data)
	must(maps.Delete(ctx, "informed", meta.DeleteOptions{}))
	say("%s", <-seen)
	left, err := lister.ConfigMaps(s.namespace).List(labels.Set{"of": "pages"}.AsSelector())
	must(err)
	say("cached: %d", len(left))
}

func leaders(s *steps, ctx context.Context, say func(string, ...any)) {
	led := make(chan string, 10)
	candidate := func(name string) (context.CancelFunc, chan struct{}) {
		within, cancel := context.WithCancel(ctx)
		lock := &resourcelock.LeaseLock{LeaseMeta: meta.ObjectMeta{Name: "leader", Namespace: s.namespace}, Client: s.client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name}}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, ReleaseOnCancel: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 200 * time.Millisecond,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(context.Context) { led <- name + " leads" },
				OnStoppedLeading: func() { led <- name + " leads no more" },
			},
		})
		must(err)
		over := make(chan struct{})
		go func() { elector.Run(within); close(over) }()
		return cancel, over
	}
	first, over := candidate("one")
	say("%s", <-led)
	second, end := candidate("two")
	lease, err := s.client.CoordinationV1().Leases(s.namespace).Get(ctx, "leader", meta.GetOptions{})
	must(err)
	say("holder: %s", *lease.Spec.HolderIdentity)
	first()
	<-over
	say("%s", <-led)
	say("%s", <-led)
	lease, err = s.client.CoordinationV1().Leases(s.namespace).Get(ctx, "leader", meta.GetOptions{})
	must(err)
	say("holder: %s", *lease.Spec.HolderIdentity)
	second()
	<-end
	say("%s", <-led)
}

func recorded(s *steps, ctx context.Context, say func(string, ...any)) {
	maps, events := s.client.CoreV1().ConfigMaps(s.namespace), s.client.CoreV1().Events(s.namespace)
	about, err := maps.Create(ctx, configMap("about", nil), meta.CreateOptions{})
	must(err)
	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: events})
	recorder := broadcaster.NewRecorder(scheme.Scheme, core.EventSource{Component: "program"})
	recorder.Event(about, "Normal", "Happened", "something has happened")
	recorder.Event(about, "Normal", "Happened", "something has happened")
	selector := meta.ListOptions{FieldSelector: "involvedObject.name=about,reason=Happened"}
	s.until(ctx, "it is counted", func() bool {
		list, err := events.List(ctx, selector)
		must(err)
		return len(list.Items) == 1 && list.Items[0].Count == 2
	})
	list, err := events.List(ctx, selector)
	must(err)
	event := list.Items[0]
	say("%s %s %s %s %s %d", event.Type, event.Reason, event.Message, event.Source.Component, event.InvolvedObject.Kind, event.Count)
	found, err := events.SearchWithContext(ctx, scheme.Scheme, about)
	must(err)
	say("found: %d", len(found.Items))
}
