// Package api owns the product's contracts: the OpenAPI document of the REST
// API here, the protocols under proto and their generated code under gen.
//
// The REST server serves the document as it stands; tests hold the server and
// the document to each other. The package holds no logic.
package api

import _ "embed"

// OpenAPI is the OpenAPI 3.1 document of the REST API, in YAML.
//
//go:embed openapi.yaml
var OpenAPI []byte
