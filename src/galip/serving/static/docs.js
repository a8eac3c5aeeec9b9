// The page about the API: Swagger's, fed with what this server says about itself.

SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
