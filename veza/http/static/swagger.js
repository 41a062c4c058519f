// The API's document as a page. A token that is typed in stays in this page's memory, and is gone with it.

const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();

const page = document.getElementById("api");

// What signs webhooks is nothing to be typed in: where a bearer token will do, the dialog asks for that alone.
const isBearer = (scheme) => scheme.has("bearer");
const askForBearer = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        showDefinitions: (original) => (schemes) =>
          original(schemes && schemes.some(isBearer) ? schemes.filter(isBearer) : schemes),
      },
    },
  },
});

// What the viewer leaves without a name, or out of a keyboard's reach.
const mend = () => {
  for (const each of page.querySelectorAll(".examples-select-element:not([aria-label])")) {
    each.setAttribute("aria-label", "Example");
  }
  for (const each of page.querySelectorAll("pre.microlight:not([tabindex])")) {
    each.tabIndex = 0;
  }
};
new MutationObserver(mend).observe(page, { childList: true, subtree: true });

window.SwaggerUIBundle({
  domNode: page,
  url: page.dataset.document,
  presets: [window.SwaggerUIBundle.presets.apis],
  plugins: [askForBearer],
  layout: "BaseLayout",
  deepLinking: true, // an operation has an address that can be passed on
  docExpansion: "none", // the chapters first: there are a hundred and fifty operations
  filter: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: -1, // each schema stands where it is used
  persistAuthorization: false,
  queryConfigEnabled: false, // a link may not make the page show another document
  validatorUrl: null, // the document is asked of nobody else
});
