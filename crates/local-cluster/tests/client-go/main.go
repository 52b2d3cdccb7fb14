// Uses a cluster as Go programs do, by client-go, and prints what it sees, a step after another: the same on every
// cluster, so without addresses, uids, versions and times. Usage: client-go KUBECONFIG NAMESPACE IMAGE
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-logr/logr"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

var uids = regexp.MustCompile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}")

// The longest that anything may take.
const patience = 2 * time.Minute

type steps struct {
	config    *rest.Config
	client    *kubernetes.Clientset
	namespace string
	image     string
}

// A step tells what it saw; what it must not go on after is a panic.
type step struct {
	name string
	run  func(s *steps, ctx context.Context, say func(string, ...any))
}

func main() {
	klog.SetLogger(logr.Discard())
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	must(err)
	// Not our business here: no step waits because it asks too much.
	config.QPS, config.Burst = 1000, 1000
	s := &steps{config: config, client: kubernetes.NewForConfigOrDie(config), namespace: os.Args[2], image: os.Args[3]}
	ctx := context.Background()
	_, err = s.client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: named(s.namespace)}, meta.CreateOptions{})
	must(err)
	s.account(ctx)
	for _, step := range append(objects, append(watches, streams...)...) {
		fmt.Printf("== %s\n", step.name)
		within, cancel := context.WithTimeout(ctx, patience)
		attempt(s, within, step)
		cancel()
	}
	must(s.client.CoreV1().Namespaces().Delete(ctx, s.namespace, meta.DeleteOptions{}))
}

// A step that fails does not keep the others from being told.
func attempt(s *steps, ctx context.Context, step step) {
	say := func(format string, values ...any) {
		text := strings.ReplaceAll(fmt.Sprintf(format, values...), s.image, "IMAGE")
		text = uids.ReplaceAllString(text, "UID")
		fmt.Println(strings.ReplaceAll(text, s.namespace, "NAMESPACE"))
	}
	defer func() {
		if failed := recover(); failed != nil {
			say("failed: %v", failed)
		}
	}()
	step.run(s, ctx, say)
}

// Waits for the account that pods of a namespace have; where none is made, makes it.
func (s *steps) account(ctx context.Context) {
	accounts := s.client.CoreV1().ServiceAccounts(s.namespace)
	_, err := accounts.Create(ctx, &core.ServiceAccount{ObjectMeta: named("default")}, meta.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		must(err)
	}
}

func must(err error) {
	if err != nil {
		panic(told(err))
	}
}

// What a program decides by, and the words.
func told(err error) string {
	var status apierrors.APIStatus
	if err == nil {
		return "fine"
	}
	if !errors.As(err, &status) {
		return err.Error()
	}
	said := status.Status()
	text := fmt.Sprintf("%d %s: %s", said.Code, said.Reason, said.Message)
	if said.Details != nil {
		for _, cause := range said.Details.Causes {
			text += fmt.Sprintf("\n  %s %s: %s", cause.Type, cause.Field, cause.Message)
		}
	}
	return text
}

func named(name string) meta.ObjectMeta { return meta.ObjectMeta{Name: name} }

func configMap(name string, labels map[string]string) *core.ConfigMap {
	return &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"a": "1"}}
}

// Asks until it is so.
func (s *steps) until(ctx context.Context, what string, is func() bool) {
	for !is() {
		select {
		case <-ctx.Done():
			panic("never: " + what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func read(from io.Reader) string {
	all, err := io.ReadAll(from)
	if err != nil {
		return string(all) + " " + err.Error()
	}
	return string(all)
}
