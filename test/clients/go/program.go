// Package program creates a sandbox, runs a command, reads a file and destroys
// the sandbox with the client of oapi-codegen. It is compiled, not run.
package program

import (
	"context"
	"fmt"

	"github.com/wrenn-dev/wrenn/test/clients/go/generated"
)

// Run returns the command's exit code.
func Run(ctx context.Context) (int, error) {
	client, err := generated.NewClientWithResponses("http://127.0.0.1:8080")
	if err != nil {
		return 0, err
	}
	name, key, action := "web-1", "one", generated.Pause
	created, err := client.CreateSandboxWithResponse(ctx, &generated.CreateSandboxParams{IdempotencyKey: &key},
		generated.CreateSandboxRequest{Name: &name, OnTimeout: &action})
	if err != nil {
		return 0, err
	}
	if created.JSON201 == nil {
		return 0, fmt.Errorf("create: %s", created.Status())
	}
	id := created.JSON201.Id
	done, err := client.ExecCommandWithResponse(ctx, id, &generated.ExecCommandParams{},
		generated.ExecRequest{Cmd: "echo", Args: &[]string{"hi"}})
	if err != nil || done.JSON200 == nil {
		return 0, fmt.Errorf("exec: %v", err)
	}
	if _, err := client.GetFileWithResponse(ctx, id, &generated.GetFileParams{Path: "/etc/hostname"}); err != nil {
		return 0, err
	}
	if _, err := client.DestroySandboxWithResponse(ctx, id, &generated.DestroySandboxParams{}); err != nil {
		return 0, err
	}
	return done.JSON200.ExitCode, nil
}
