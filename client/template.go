package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/api/types"
)

// Template is a name under which sandboxes can be created.
type Template = types.Template

// TemplateTag names a build of a template.
type TemplateTag = types.TemplateTag

// TemplateBuild is one build of a template.
type TemplateBuild = types.TemplateBuild

// TemplateBuildLog is a line of the log of a build.
type TemplateBuildLog = types.TemplateBuildLog

// TemplateBuildProgress tells how far a build is.
type TemplateBuildProgress = types.TemplateBuildProgress

// BuildRequest is a template to build. Zero values mean the server's defaults.
type BuildRequest = types.BuildTemplateRequest

// TemplateBase is the base of a template. Exactly one field is set.
type TemplateBase = types.TemplateBase

// RegistryLogin are credentials for the base images of one registry.
type RegistryLogin = types.RegistryLogin

// TagTarget names the build of a tag by its id or by another tag.
type TagTarget = types.SetTagRequest

// The statuses of a build.
const (
	BuildWaiting  = "waiting"
	BuildBuilding = "building"
	BuildReady    = "ready"
	BuildFailed   = "error"
)

// BuildImport is the stage of the progress of an import of a base image, whose Done and Total are
// bytes.
const BuildImport = "import"

// BuildEnded reports whether a build with this status has ended.
func BuildEnded(status string) bool { return status == BuildReady || status == BuildFailed }

// AnyTemplate stands for the template of a build, in methods that take both.
const AnyTemplate = "-"

// TemplatePage is part of a list of templates.
type TemplatePage struct {
	Templates []Template
	// NextCursor leads to the next page; it is empty on the last.
	NextCursor string
}

// ListTemplates returns one page of at most limit templates, which follows the page with
// the cursor. A limit of 0 is one page with everything.
func (c *Client) ListTemplates(ctx context.Context, limit int, cursor string) (*TemplatePage, error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	page := new(TemplatePage)
	header, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/templates", query: q}, nil, &page.Templates)
	if err != nil {
		return nil, err
	}
	page.NextCursor = header.Get("X-Next-Cursor")
	return page, nil
}

// AllTemplates goes through the templates of all pages. An error ends it and comes with a
// zero Template.
func (c *Client) AllTemplates(ctx context.Context) iter.Seq2[Template, error] {
	return func(yield func(Template, error) bool) {
		cursor := ""
		for {
			page, err := c.ListTemplates(ctx, pageSize, cursor)
			if err != nil {
				yield(Template{}, err)
				return
			}
			for _, t := range page.Templates {
				if !yield(t, nil) {
					return
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return
			}
		}
	}
}

// GetTemplate returns a template, by its name or id, with its newest builds.
func (c *Client) GetTemplate(ctx context.Context, name string) (*Template, error) {
	return callTemplate[Template](ctx, c, http.MethodGet, nil, name)
}

// DeleteTemplate deletes a template with its builds. Sandboxes made from it continue.
func (c *Client) DeleteTemplate(ctx context.Context, name string) error {
	return c.deleteTemplate(ctx, name)
}

// BuildTemplate begins a build and returns it. The build continues whatever becomes of the
// caller; Build, BuildLogs and FollowBuild tell of it.
func (c *Client) BuildTemplate(ctx context.Context, name string, in BuildRequest) (*TemplateBuild, error) {
	return callTemplate[TemplateBuild](ctx, c, http.MethodPost, in, name, "builds")
}

// Builds returns the builds of a template, newest first, at most 100.
func (c *Client) Builds(ctx context.Context, name string) ([]TemplateBuild, error) {
	list, err := callTemplate[[]TemplateBuild](ctx, c, http.MethodGet, nil, name, "builds")
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// Build returns a build of a template, which may be AnyTemplate.
func (c *Client) Build(ctx context.Context, name, build string) (*TemplateBuild, error) {
	return callTemplate[TemplateBuild](ctx, c, http.MethodGet, nil, name, "builds", build)
}

// CancelBuild ends a build. One that has ended is an *Error with the code "build_ended".
func (c *Client) CancelBuild(ctx context.Context, name, build string) error {
	return c.deleteTemplate(ctx, name, "builds", build)
}

// BuildLogs returns the entries of a build's log after the entry with the seq, at most limit;
// 0 are 1000.
func (c *Client) BuildLogs(ctx context.Context, name, build string, after int64, limit int) ([]TemplateBuildLog, error) {
	path, err := templatePath(name, "builds", build, "logs")
	if err != nil {
		return nil, err
	}
	q := url.Values{"after": {strconv.FormatInt(after, 10)}}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var out []TemplateBuildLog
	_, err = c.call(ctx, request{method: http.MethodGet, path: path, query: q}, nil, &out)
	return out, err
}

// TemplateTag returns a tag of a template.
func (c *Client) TemplateTag(ctx context.Context, name, tag string) (*TemplateTag, error) {
	return callTemplate[TemplateTag](ctx, c, http.MethodGet, nil, name, "tags", tag)
}

// SetTemplateTag makes a tag name a build that is ready.
func (c *Client) SetTemplateTag(ctx context.Context, name, tag string, to TagTarget) (*TemplateTag, error) {
	return callTemplate[TemplateTag](ctx, c, http.MethodPut, to, name, "tags", tag)
}

// RemoveTemplateTag removes a tag. The tag "default" stays.
func (c *Client) RemoveTemplateTag(ctx context.Context, name, tag string) error {
	return c.deleteTemplate(ctx, name, "tags", tag)
}

// HasUpload reports whether the server has an upload with the SHA-256 digest, in hex. It
// is kept for another day then.
func (c *Client) HasUpload(ctx context.Context, digest string) (bool, error) {
	path, err := templatePath("uploads", digest)
	if err != nil {
		return false, err
	}
	_, err = c.call(ctx, request{method: http.MethodGet, path: path}, nil, nil)
	if refused, ok := err.(*Error); ok && refused.Code == "upload_not_found" { //nolint:errorlint // as call returns it
		return false, nil
	}
	return err == nil, err
}

// PutUpload stores the context of a build, or an image archive, of size bytes; 0 is
// unknown. Content with another digest is refused.
func (c *Client) PutUpload(ctx context.Context, digest string, size int64, content io.Reader) error {
	path, err := templatePath("uploads", digest)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, request{
		method: http.MethodPut, path: path,
		header: http.Header{"Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}},
		body:   io.NopCloser(content), length: size,
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// callTemplate does a request on a part of a template.
func callTemplate[T any](ctx context.Context, c *Client, method string, in any, parts ...string) (*T, error) {
	path, err := templatePath(parts...)
	if err != nil {
		return nil, err
	}
	out := new(T)
	if _, err := c.call(ctx, request{method: method, path: path}, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *Client) deleteTemplate(ctx context.Context, parts ...string) error {
	path, err := templatePath(parts...)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: path}, nil, nil)
	return err
}

// templatePath returns the URL path of a template, or of a part of it. It refuses text that
// is not a name, which could change the meaning of the URL.
func templatePath(parts ...string) (string, error) {
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return "", &Error{Status: http.StatusNotFound, Code: "template_not_found",
				Message: fmt.Sprintf("%q is not the name of a template, a build or a tag: names are lower-case letters, digits, '.', '_' and '-'", part)}
		}
	}
	return "/v1/templates/" + strings.Join(parts, "/"), nil
}
