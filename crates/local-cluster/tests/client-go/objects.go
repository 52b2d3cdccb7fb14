package main

import (
	"context"
	"sort"
	"strings"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/retry"
)

var objects = []step{
	{"resources are discovered", discover},
	{"objects are made, read, changed and deleted, as JSON", func(s *steps, ctx context.Context, say func(string, ...any)) {
		s.crud(ctx, say, "application/json")
	}},
	{"the same, as protobuf", func(s *steps, ctx context.Context, say func(string, ...any)) {
		s.crud(ctx, say, "application/vnd.kubernetes.protobuf")
	}},
	{"who changes an old version is told", conflict},
	{"patches", patches},
	{"fields have managers", managers},
	{"lists come in pages", pages},
	{"preconditions, dry runs and many at once", deletes},
	{"finalizers", finalizers},
	{"dependents go with their owners", dependents},
	{"what is wrong is named", invalid},
	{"other kinds", kinds},
	{"tokens", tokens},
	{"who may do what", access},
	{"kinds that are not known beforehand", dynamics},
	{"metadata alone", partial},
}

func discover(s *steps, _ context.Context, say func(string, ...any)) {
	for _, group := range []string{"v1", "coordination.k8s.io/v1", "authentication.k8s.io/v1", "authorization.k8s.io/v1"} {
		list, err := s.client.Discovery().ServerResourcesForGroupVersion(group)
		must(err)
		for _, resource := range list.APIResources {
			switch strings.Split(resource.Name, "/")[0] {
			case "pods", "secrets", "configmaps", "serviceaccounts", "leases", "namespaces", "nodes", "tokenreviews", "selfsubjectaccessreviews", "selfsubjectreviews":
			default:
				continue
			}
			verbs := append([]string{}, resource.Verbs...)
			sort.Strings(verbs)
			say("%s %s %s %v %v %v %v", group, resource.Name, resource.Kind, resource.Namespaced, resource.ShortNames, resource.Categories, verbs)
		}
	}
	_, err := s.client.Discovery().ServerResourcesForGroupVersion("nope.example/v1")
	say("%s", told(err))
	paths, err := s.client.Discovery().OpenAPIV3().Paths()
	must(err)
	for _, path := range []string{"api/v1", "apis/coordination.k8s.io/v1"} {
		_, there := paths[path]
		say("OpenAPI has %s: %v", path, there)
	}
}

func (s *steps) crud(ctx context.Context, say func(string, ...any), content string) {
	config := rest.CopyConfig(s.config)
	config.ContentType, config.AcceptContentTypes = content, content+",application/json"
	client, err := kubernetes.NewForConfig(config)
	must(err)
	secrets := client.CoreV1().Secrets(s.namespace)
	secret := &core.Secret{ObjectMeta: named("crud"), StringData: map[string]string{"word": "x"}}
	made, err := secrets.Create(ctx, secret, meta.CreateOptions{FieldManager: "go"})
	must(err)
	say("%s %s %v %v", made.Name, made.Type, made.Data, made.Generation)
	for _, manager := range made.ManagedFields {
		say("managed by %s of %s", manager.Manager, manager.APIVersion)
	}
	_, err = secrets.Create(ctx, secret, meta.CreateOptions{})
	say("again: %s", told(err))
	read, err := secrets.Get(ctx, "crud", meta.GetOptions{})
	must(err)
	say("the same: %v", read.ResourceVersion == made.ResourceVersion && read.UID == made.UID)
	_, err = secrets.Get(ctx, "nobody", meta.GetOptions{})
	say("%s", told(err))
	read.Labels = map[string]string{"changed": "yes"}
	changed, err := secrets.Update(ctx, read, meta.UpdateOptions{})
	must(err)
	say("%v, another version: %v", changed.Labels, changed.ResourceVersion != read.ResourceVersion)
	same, err := secrets.Update(ctx, changed, meta.UpdateOptions{})
	must(err)
	say("nothing changed: %v", same.ResourceVersion == changed.ResourceVersion)
	read.Name = "other"
	_, err = secrets.Update(ctx, read, meta.UpdateOptions{})
	say("%s", told(err))
	say("deleted: %s", told(secrets.Delete(ctx, "crud", meta.DeleteOptions{})))
	say("again: %s", told(secrets.Delete(ctx, "crud", meta.DeleteOptions{})))
}

func conflict(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	old, err := maps.Create(ctx, configMap("conflict", nil), meta.CreateOptions{})
	must(err)
	change := func(object *core.ConfigMap, value string) error {
		object = object.DeepCopy()
		object.Data["a"] = value
		_, err := maps.Update(ctx, object, meta.UpdateOptions{})
		return err
	}
	must(change(old, "2"))
	say("%s", told(change(old, "3")))
	tries := 0
	say("%s", told(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if tries++; tries == 1 {
			return change(old, "4")
		}
		fresh, err := maps.Get(ctx, "conflict", meta.GetOptions{})
		must(err)
		return change(fresh, "4")
	})))
	say("tries: %d", tries)
	old.UID, old.ResourceVersion = "another", ""
	say("%s", told(change(old, "5")))
}

func patches(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	_, err := maps.Create(ctx, configMap("patched", map[string]string{"one": "1"}), meta.CreateOptions{})
	must(err)
	for _, patch := range []struct {
		kind types.PatchType
		body string
	}{
		{types.JSONPatchType, `[{"op": "add", "path": "/data/b", "value": "2"}]`},
		{types.JSONPatchType, `[{"op": "remove", "path": "/data/nope"}]`},
		{types.JSONPatchType, `[{"op": "test", "path": "/data/a", "value": "9"}]`},
		{types.MergePatchType, `{"data": {"a": null, "c": "3"}}`},
		{types.StrategicMergePatchType, `{"metadata": {"finalizers": ["x.example/a"]}}`},
		{types.StrategicMergePatchType, `{"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.example/a"]}}`},
		{types.MergePatchType, `{"metadata": {"labels": {"bad key": "x"}}}`},
		{types.MergePatchType, `{"metadata": {"resourceVersion": "1"}}`},
		{types.MergePatchType, `not json`},
	} {
		now, err := maps.Patch(ctx, "patched", patch.kind, []byte(patch.body), meta.PatchOptions{})
		if err != nil {
			say("%s: %s", patch.body, told(err))
			continue
		}
		say("%s: %v %v %v", patch.body, now.Data, now.Labels, now.Finalizers)
	}
	_, err = maps.Patch(ctx, "nobody", types.MergePatchType, []byte(`{}`), meta.PatchOptions{})
	say("%s", told(err))
}

func managers(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	apply := func(manager, key, value string, force bool) {
		wanted := applycore.ConfigMap("managed", s.namespace).WithData(map[string]string{key: value})
		now, err := maps.Apply(ctx, wanted, meta.ApplyOptions{FieldManager: manager, Force: force})
		if err != nil {
			say("%s sets %s: %s", manager, key, told(err))
			return
		}
		say("%s sets %s: %v", manager, key, now.Data)
	}
	apply("one", "a", "1", false)
	apply("two", "b", "2", false)
	apply("two", "a", "3", false)
	apply("two", "a", "3", true)
	apply("one", "c", "4", false)
	apply("", "c", "4", false)
	// What a manager leaves out goes.
	apply("two", "d", "5", false)
	now, err := maps.Get(ctx, "managed", meta.GetOptions{})
	must(err)
	mine, err := applycore.ExtractConfigMap(now, "two")
	must(err)
	say("of two: %v", mine.Data)
}

func pages(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	for _, name := range []string{"page-a", "page-b", "page-c", "page-d", "page-e"} {
		_, err := maps.Create(ctx, configMap(name, map[string]string{"of": "pages", "name": name}), meta.CreateOptions{})
		must(err)
	}
	options := meta.ListOptions{LabelSelector: "of=pages", Limit: 2}
	for {
		list, err := maps.List(ctx, options)
		must(err)
		for _, item := range list.Items {
			say("%s", item.Name)
		}
		say("more: %v", list.Continue != "")
		if options.Continue = list.Continue; list.Continue == "" {
			break
		}
	}
	options.Continue = "nonsense"
	_, err := maps.List(ctx, options)
	say("%s", told(err))
	for _, selector := range []string{"name in (page-a,page-c)", "of=pages,name notin (page-a)", "!of", "of", "name=page-a,", "a=b=c", "of=pages,name>3"} {
		list, err := maps.List(ctx, meta.ListOptions{LabelSelector: selector})
		if err != nil {
			say("%s: %s", selector, told(err))
			continue
		}
		names := []string{}
		for _, item := range list.Items {
			if item.Name != "kube-root-ca.crt" {
				names = append(names, item.Name)
			}
		}
		say("%s: %v", selector, names)
	}
	for _, selector := range []string{"metadata.name=page-b", "metadata.name!=page-b", "data.a=1"} {
		list, err := maps.List(ctx, meta.ListOptions{FieldSelector: selector, LabelSelector: "of=pages"})
		say("%s: %d %s", selector, len(list.Items), told(err))
	}
	list, err := maps.List(ctx, meta.ListOptions{LabelSelector: "of=pages", ResourceVersion: "0"})
	must(err)
	say("from a cache: %d", len(list.Items))
	_, err = maps.List(ctx, meta.ListOptions{ResourceVersion: "nonsense"})
	say("%s", told(err))
	_, err = maps.List(ctx, meta.ListOptions{ResourceVersionMatch: meta.ResourceVersionMatchExact})
	say("%s", told(err))
}

func deletes(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	other, version := types.UID("00000000-0000-0000-0000-000000000000"), "1"
	err := maps.Delete(ctx, "page-a", meta.DeleteOptions{Preconditions: &meta.Preconditions{UID: &other}})
	say("another uid: %v", strings.Contains(told(err), "409 Conflict: Operation cannot be fulfilled on configmaps \"page-a\": the UID in the precondition"))
	err = maps.Delete(ctx, "page-a", meta.DeleteOptions{Preconditions: &meta.Preconditions{ResourceVersion: &version}})
	say("another version: %v", strings.Contains(told(err), "409 Conflict: Operation cannot be fulfilled on configmaps \"page-a\": the ResourceVersion in the precondition"))
	say("not really: %s", told(maps.Delete(ctx, "page-a", meta.DeleteOptions{DryRun: []string{meta.DryRunAll}})))
	_, err = maps.Get(ctx, "page-a", meta.GetOptions{})
	say("still there: %s", told(err))
	_, err = maps.Create(ctx, configMap("dry", nil), meta.CreateOptions{DryRun: []string{meta.DryRunAll}})
	say("made, not really: %s", told(err))
	_, err = maps.Get(ctx, "dry", meta.GetOptions{})
	say("%s", told(err))
	_, err = maps.Create(ctx, configMap("dry", nil), meta.CreateOptions{DryRun: []string{"Some"}})
	say("%s", told(err))
	must(maps.DeleteCollection(ctx, meta.DeleteOptions{}, meta.ListOptions{LabelSelector: "name in (page-a,page-b,page-c)"}))
	list, err := maps.List(ctx, meta.ListOptions{LabelSelector: "of=pages"})
	must(err)
	say("left: %d", len(list.Items))
}

func finalizers(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	object := configMap("final", nil)
	object.Finalizers = []string{"x.example/hold"}
	_, err := maps.Create(ctx, object, meta.CreateOptions{})
	must(err)
	say("%s", told(maps.Delete(ctx, "final", meta.DeleteOptions{})))
	held, err := maps.Get(ctx, "final", meta.GetOptions{})
	must(err)
	say("going: %v, %v", held.DeletionTimestamp != nil, *held.DeletionGracePeriodSeconds)
	_, err = maps.Patch(ctx, "final", types.MergePatchType, []byte(`{"metadata": {"finalizers": ["x.example/hold", "x.example/more"]}}`), meta.PatchOptions{})
	say("one more: %s", told(err))
	_, err = maps.Patch(ctx, "final", types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), meta.PatchOptions{})
	say("none: %s", told(err))
	_, err = maps.Get(ctx, "final", meta.GetOptions{})
	say("%s", told(err))
}

func dependents(s *steps, ctx context.Context, say func(string, ...any)) {
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	for _, policy := range []meta.DeletionPropagation{meta.DeletePropagationBackground, meta.DeletePropagationForeground, meta.DeletePropagationOrphan} {
		owner, err := maps.Create(ctx, configMap("owner", nil), meta.CreateOptions{})
		must(err)
		block := true
		child := configMap("dependent", nil)
		child.OwnerReferences = []meta.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID, BlockOwnerDeletion: &block}}
		_, err = maps.Create(ctx, child, meta.CreateOptions{})
		must(err)
		must(maps.Delete(ctx, "owner", meta.DeleteOptions{PropagationPolicy: &policy}))
		s.until(ctx, "the owner is gone", func() bool {
			_, err := maps.Get(ctx, "owner", meta.GetOptions{})
			return err != nil
		})
		if policy == meta.DeletePropagationOrphan {
			left, err := maps.Get(ctx, "dependent", meta.GetOptions{})
			must(err)
			say("%s: left with %d owners", policy, len(left.OwnerReferences))
			must(maps.Delete(ctx, "dependent", meta.DeleteOptions{}))
			continue
		}
		s.until(ctx, "its dependent is gone", func() bool {
			_, err := maps.Get(ctx, "dependent", meta.GetOptions{})
			return err != nil
		})
		say("%s: both are gone", policy)
	}
	nobody := configMap("lost", nil)
	nobody.OwnerReferences = []meta.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: "0"}}
	_, err := maps.Create(ctx, nobody, meta.CreateOptions{})
	must(err)
	s.until(ctx, "whose owner never was goes too", func() bool {
		_, err := maps.Get(ctx, "lost", meta.GetOptions{})
		return err != nil
	})
	say("whose owner never was goes too")
}

func invalid(s *steps, ctx context.Context, say func(string, ...any)) {
	pods := s.client.CoreV1().Pods(s.namespace)
	for _, change := range []func(*core.Pod){
		func(p *core.Pod) { p.Name = "B_" },
		func(p *core.Pod) { p.Spec.Containers = nil },
		func(p *core.Pod) { p.Spec.Containers[0].Name = "" },
		func(p *core.Pod) { p.Spec.RestartPolicy = "Sometimes" },
		func(p *core.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
		func(p *core.Pod) {
			p.Spec.Containers[0].VolumeMounts = []core.VolumeMount{{Name: "v", MountPath: "/v"}}
		},
		func(p *core.Pod) { p.Spec.Containers[0].Env = []core.EnvVar{{Name: "="}} },
		func(p *core.Pod) { p.Labels = map[string]string{"a": "not a value"} },
		func(p *core.Pod) { p.Namespace = "other" },
	} {
		pod := s.pod("invalid", "true")
		change(pod)
		_, err := pods.Create(ctx, pod, meta.CreateOptions{})
		say("%s", told(err))
	}
	object := configMap("bad", nil)
	object.Data["no/key"] = ""
	_, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(ctx, object, meta.CreateOptions{})
	say("%s", told(err))
	_, err = s.client.CoreV1().ConfigMaps("nowhere").Create(ctx, configMap("x", nil), meta.CreateOptions{})
	say("%s", told(err))
	unnamed := configMap("", nil)
	_, err = s.client.CoreV1().ConfigMaps(s.namespace).Create(ctx, unnamed, meta.CreateOptions{})
	say("%s", told(err))
	unnamed.GenerateName = "made-"
	made, err := s.client.CoreV1().ConfigMaps(s.namespace).Create(ctx, unnamed, meta.CreateOptions{})
	must(err)
	say("a name is made: %v", len(made.Name) == len("made-")+5)
}

func kinds(s *steps, ctx context.Context, say func(string, ...any)) {
	holder, seconds := "me", int32(15)
	leases := s.client.CoordinationV1().Leases(s.namespace)
	lease, err := leases.Create(ctx, &coordination.Lease{ObjectMeta: named("l"), Spec: coordination.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds}}, meta.CreateOptions{})
	must(err)
	say("%s %d", *lease.Spec.HolderIdentity, *lease.Spec.LeaseDurationSeconds)
	accounts := s.client.CoreV1().ServiceAccounts(s.namespace)
	account, err := accounts.Create(ctx, &core.ServiceAccount{ObjectMeta: named("robot")}, meta.CreateOptions{})
	must(err)
	say("%s %v", account.Name, account.AutomountServiceAccountToken)
	immutable := true
	maps := s.client.CoreV1().ConfigMaps(s.namespace)
	fixed := configMap("fixed", nil)
	fixed.Immutable = &immutable
	fixed, err = maps.Create(ctx, fixed, meta.CreateOptions{})
	must(err)
	fixed.Data["a"] = "2"
	_, err = maps.Update(ctx, fixed, meta.UpdateOptions{})
	say("%s", told(err))
	nodes, err := s.client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
	must(err)
	for _, condition := range nodes.Items[0].Status.Conditions {
		if condition.Type == core.NodeReady {
			say("a node is ready: %s, schedulable: %v", condition.Status, !nodes.Items[0].Spec.Unschedulable)
		}
	}
	namespace, err := s.client.CoreV1().Namespaces().Get(ctx, s.namespace, meta.GetOptions{})
	must(err)
	say("%s %v", namespace.Status.Phase, namespace.Spec.Finalizers)
	say("%v", namespace.Labels["kubernetes.io/metadata.name"])
	_, err = s.client.CoreV1().Services(s.namespace).List(ctx, meta.ListOptions{})
	say("services: %v", err == nil)
	_, err = s.client.AppsV1().Deployments(s.namespace).List(ctx, meta.ListOptions{})
	say("deployments: %v", err == nil)
	say("evicted: %s", told(s.client.CoreV1().Pods(s.namespace).EvictV1(ctx, &policy.Eviction{ObjectMeta: named("nobody")})))
}

func tokens(s *steps, ctx context.Context, say func(string, ...any)) {
	seconds := int64(600)
	accounts := s.client.CoreV1().ServiceAccounts(s.namespace)
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{"somebody"}, ExpirationSeconds: &seconds}}
	made, err := accounts.CreateToken(ctx, "robot", request, meta.CreateOptions{})
	must(err)
	say("%v %v, parts: %d", made.Spec.Audiences, *made.Spec.ExpirationSeconds, len(strings.Split(made.Status.Token, ".")))
	review := func(token string, audiences ...string) {
		answer, err := s.client.AuthenticationV1().TokenReviews().Create(ctx, &authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: token, Audiences: audiences}}, meta.CreateOptions{})
		must(err)
		status := answer.Status
		say("%v %s %v %v", status.Authenticated, status.User.Username, status.User.Groups, status.Audiences)
	}
	review(made.Status.Token, "somebody", "others")
	review(made.Status.Token, "others")
	review(made.Status.Token)
	review("nonsense")
	request.Spec.Audiences = nil
	own, err := accounts.CreateToken(ctx, "robot", request, meta.CreateOptions{})
	must(err)
	review(own.Status.Token)
	config := rest.AnonymousClientConfig(s.config)
	config.BearerToken = own.Status.Token
	robot, err := kubernetes.NewForConfig(config)
	must(err)
	who, err := robot.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authentication.SelfSubjectReview{}, meta.CreateOptions{})
	must(err)
	say("%s %v", who.Status.UserInfo.Username, who.Status.UserInfo.Groups)
	config.BearerToken = "nonsense"
	nobody, err := kubernetes.NewForConfig(config)
	must(err)
	_, err = nobody.CoreV1().Pods(s.namespace).List(ctx, meta.ListOptions{})
	say("%s", told(err))
	short := int64(1)
	request.Spec.ExpirationSeconds = &short
	_, err = accounts.CreateToken(ctx, "robot", request, meta.CreateOptions{})
	say("%s", told(err))
	must(accounts.Delete(ctx, "robot", meta.DeleteOptions{}))
	s.until(ctx, "its tokens are worth nothing", func() bool {
		answer, err := s.client.AuthenticationV1().TokenReviews().Create(ctx, &authentication.TokenReview{Spec: authentication.TokenReviewSpec{Token: own.Status.Token}}, meta.CreateOptions{})
		return err == nil && !answer.Status.Authenticated
	})
	say("without its account it is worth nothing")
}

func access(s *steps, ctx context.Context, say func(string, ...any)) {
	for _, verb := range []string{"get", "create", "impersonate"} {
		attributes := &authorization.ResourceAttributes{Namespace: s.namespace, Verb: verb, Resource: "pods"}
		answer, err := s.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}, meta.CreateOptions{})
		must(err)
		say("%s: %v %v", verb, answer.Status.Allowed, answer.Status.Denied)
	}
}

func dynamics(s *steps, ctx context.Context, say func(string, ...any)) {
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.client.Discovery()))
	mapping, err := mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"})
	must(err)
	say("%s %s", mapping.Resource.Resource, mapping.Scope.Name())
	_, err = mapper.RESTMapping(schema.GroupKind{Group: "nope.example", Kind: "Nope"})
	say("%s", told(err))
	client, err := dynamic.NewForConfig(s.config)
	must(err)
	maps := client.Resource(mapping.Resource).Namespace(s.namespace)
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "dynamic"}, "data": map[string]any{"x": "y"}}}
	made, err := maps.Create(ctx, object, meta.CreateOptions{})
	must(err)
	data, _, _ := unstructured.NestedStringMap(made.Object, "data")
	say("%s %v", made.GetKind(), data)
	object.Object["nope"] = 1
	object.SetName("strict")
	_, err = maps.Create(ctx, object, meta.CreateOptions{FieldValidation: "Strict"})
	say("%s", told(err))
	object.Object["data"] = "text"
	_, err = maps.Create(ctx, object, meta.CreateOptions{})
	say("refused: %v", err != nil)
	_, err = client.Resource(schema.GroupVersionResource{Group: "nope.example", Version: "v1", Resource: "nopes"}).List(ctx, meta.ListOptions{})
	say("%s", told(err))
}

func partial(s *steps, ctx context.Context, say func(string, ...any)) {
	client, err := metadata.NewForConfig(s.config)
	must(err)
	maps := client.Resource(core.SchemeGroupVersion.WithResource("configmaps")).Namespace(s.namespace)
	one, err := maps.Get(ctx, "dynamic", meta.GetOptions{})
	must(err)
	say("%s %s", one.Name, one.Kind)
	list, err := maps.List(ctx, meta.ListOptions{LabelSelector: "of=pages"})
	must(err)
	for _, item := range list.Items {
		say("%s %v", item.Name, item.Labels)
	}
}
