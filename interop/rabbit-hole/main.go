// What programs do with rabbit-hole, the client of RabbitMQ's management API that the Terraform provider uses, against the
// broker of MANAGEMENT_URL.
package main

import (
	"fmt"
	"os"
	"reflect"

	rabbithole "github.com/michaelklishin/rabbit-hole/v2"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok rabbit-hole")
}

func run() error {
	client, err := rabbithole.NewClient(os.Getenv("MANAGEMENT_URL"), "guest", "guest")
	if err != nil {
		return err
	}
	checks := []struct {
		name  string
		check func(*rabbithole.Client) error
	}{
		{"the overview and the node tell what they are", overview},
		{"virtual hosts, users and permissions come and go", tenants},
		{"exchanges, queues and bindings come and go", topology},
		{"a list is given in pages", pages},
		{"definitions are exported and imported", definitions},
		{"health checks succeed", health},
	}
	for _, check := range checks {
		if err := check.check(client); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Println("ok", check.name)
	}
	return nil
}

// expect is nil when got is what was wanted.
func expect(what string, got, wanted any) error {
	if !reflect.DeepEqual(got, wanted) {
		return fmt.Errorf("%s is %v, not %v", what, got, wanted)
	}
	return nil
}

func overview(client *rabbithole.Client) error {
	overview, err := client.Overview()
	if err != nil {
		return err
	}
	if len(overview.RabbitMQVersion) == 0 || len(overview.Listeners) == 0 {
		return fmt.Errorf("overview: %+v", overview)
	}
	nodes, err := client.ListNodes()
	if err != nil {
		return err
	}
	if len(nodes) != 1 || !nodes[0].IsRunning || nodes[0].MemUsed == 0 {
		return fmt.Errorf("nodes: %+v", nodes)
	}
	_, err = client.GetNode(nodes[0].Name)
	return err
}

func tenants(client *rabbithole.Client) error {
	if _, err := client.PutVhost("hole/1", rabbithole.VhostSettings{Description: "of rabbit-hole"}); err != nil {
		return err
	}
	vhost, err := client.GetVhost("hole/1")
	if err != nil {
		return err
	}
	if err := expect("the description", vhost.Description, "of rabbit-hole"); err != nil {
		return err
	}
	if _, err := client.PutUser("hole", rabbithole.UserSettings{Password: "p", Tags: rabbithole.UserTags{"management"}}); err != nil {
		return err
	}
	if _, err := client.UpdatePermissionsIn("hole/1", "hole", rabbithole.Permissions{Configure: "^a", Write: ".*", Read: ".*"}); err != nil {
		return err
	}
	permissions, err := client.GetPermissionsIn("hole/1", "hole")
	if err != nil {
		return err
	}
	if err := expect("configure", permissions.Configure, "^a"); err != nil {
		return err
	}
	if _, err := client.ClearPermissionsIn("hole/1", "hole"); err != nil {
		return err
	}
	if _, err := client.DeleteUser("hole"); err != nil {
		return err
	}
	if _, err := client.GetUser("hole"); err == nil {
		return fmt.Errorf("a deleted user is still there")
	}
	_, err = client.DeleteVhost("hole/1")
	return err
}

func topology(client *rabbithole.Client) error {
	arguments := map[string]interface{}{"x-max-length": 10}
	if _, err := client.DeclareQueue("/", "hole.queue", rabbithole.QueueSettings{Durable: true, Arguments: arguments}); err != nil {
		return err
	}
	if _, err := client.DeclareExchange("/", "hole.exchange", rabbithole.ExchangeSettings{Type: "topic", Durable: true}); err != nil {
		return err
	}
	binding := rabbithole.BindingInfo{
		Source: "hole.exchange", Vhost: "/", Destination: "hole.queue", DestinationType: "queue", RoutingKey: "a.#/b",
		Arguments: map[string]interface{}{"n": "1"},
	}
	if _, err := client.DeclareBinding("/", binding); err != nil {
		return err
	}
	bindings, err := client.ListQueueBindingsBetween("/", "hole.exchange", "hole.queue")
	if err != nil {
		return err
	}
	if len(bindings) != 1 || bindings[0].RoutingKey != "a.#/b" {
		return fmt.Errorf("bindings: %+v", bindings)
	}
	if _, err := client.DeleteBinding("/", bindings[0]); err != nil {
		return err
	}
	queue, err := client.GetQueue("/", "hole.queue")
	if err != nil {
		return err
	}
	if !queue.Durable || queue.Vhost != "/" || fmt.Sprint(queue.Arguments["x-max-length"]) != "10" {
		return fmt.Errorf("queue: %+v", queue)
	}
	if _, err := client.PurgeQueue("/", "hole.queue"); err != nil {
		return err
	}
	if _, err := client.DeleteQueue("/", "hole.queue"); err != nil {
		return err
	}
	if _, err := client.DeleteExchange("/", "hole.exchange"); err != nil {
		return err
	}
	return nil
}

func pages(client *rabbithole.Client) error {
	for _, name := range []string{"page.1", "page.2", "page.3"} {
		if _, err := client.DeclareQueue("/", name, rabbithole.QueueSettings{AutoDelete: true}); err != nil {
			return err
		}
	}
	page, err := client.PagedListQueuesWithParameters(map[string][]string{
		"page": {"1"}, "page_size": {"2"}, "name": {"page."}, "sort": {"name"}, "sort_reverse": {"true"},
	})
	if err != nil {
		return err
	}
	if page.FilteredCount != 3 || len(page.Items) != 2 || page.Items[0].Name != "page.3" {
		return fmt.Errorf("page: %+v", page)
	}
	for _, name := range []string{"page.1", "page.2", "page.3"} {
		if _, err := client.DeleteQueue("/", name); err != nil {
			return err
		}
	}
	return nil
}

func definitions(client *rabbithole.Client) error {
	exported, err := client.ListDefinitions()
	if err != nil {
		return err
	}
	if exported.Users == nil || exported.Vhosts == nil {
		return fmt.Errorf("definitions: %+v", exported)
	}
	// This version of rabbit-hole forgets whose permissions they are.
	exported.Permissions = nil
	_, err = client.UploadDefinitions(exported)
	return err
}

func health(client *rabbithole.Client) error {
	alarms, err := client.HealthCheckAlarms()
	if err != nil || !alarms.Ok() {
		return fmt.Errorf("alarms: %+v %w", alarms, err)
	}
	certificates, err := client.HealthCheckCertificateExpiration(1, rabbithole.DAYS)
	if err != nil || !certificates.Ok() {
		return fmt.Errorf("certificates: %+v %w", certificates, err)
	}
	listener, err := client.HealthCheckProtocolListener(rabbithole.AMQP)
	if err != nil || !listener.Ok() {
		return fmt.Errorf("listener: %+v %w", listener, err)
	}
	vhosts, err := client.HealthCheckVirtualHosts()
	if err != nil || !vhosts.Ok() {
		return fmt.Errorf("virtual hosts: %+v %w", vhosts, err)
	}
	return nil
}
