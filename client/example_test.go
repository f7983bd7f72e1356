package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/wrenn-dev/wrenn/client"
)

func Example() {
	ctx := context.Background()
	c := &client.Client{BaseURL: "http://127.0.0.1:8080", APIKey: os.Getenv("WRENN_API_KEY")}
	sb, err := c.Create(ctx, client.CreateRequest{MemoryMB: 1024})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Destroy(ctx, sb.ID)

	script := strings.NewReader("print(6*7)\n")
	if err := c.WriteFile(ctx, sb.ID, client.Upload{Path: "/tmp/answer.py"}, script); err != nil {
		log.Print(err)
		return
	}
	res, err := c.Exec(ctx, sb.ID, client.ExecRequest{Cmd: "python3", Args: []string{"/tmp/answer.py"}})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Printf("%s(exit code %d after %s)\n", res.Stdout, res.ExitCode, res.Duration)
}

func ExampleClient_ExecStream() {
	c := &client.Client{}
	res, err := c.ExecStream(context.Background(), "k3jv7qxw2mabcdefghij",
		client.ExecRequest{Cmd: "sh", Args: []string{"-c", "make test"}, Cwd: "/root/src"}, os.Stdout, os.Stderr)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(res.ExitCode)
}

func ExampleClient_All() {
	c := &client.Client{}
	for sb, err := range c.All(context.Background(), client.ListOptions{Status: []string{client.StatusRunning}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(sb.ID, sb.Template, sb.CreatedAt)
	}
}

func ExampleError() {
	c := &client.Client{}
	_, err := c.Pause(context.Background(), "k3jv7qxw2mabcdefghij")
	var e *client.Error
	if errors.As(err, &e) && e.Code == "sandbox_not_found" {
		fmt.Println("it is gone already")
	}
}
