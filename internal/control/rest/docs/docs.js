// Starts Swagger UI on the server's own OpenAPI document.
window.ui = SwaggerUIBundle({
  url: '/openapi.yaml',
  dom_id: '#swagger-ui',
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  presets: [SwaggerUIBundle.presets.apis],
  tryItOutEnabled: false,
  validatorUrl: null,
});
