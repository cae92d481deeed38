"use strict";
(function () {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;

  // "@name" under a colour key means the CSS variable --name, so that charts follow light, dark and print.
  function painted(value, key, style) {
    if (Array.isArray(value)) return value.map((item) => painted(item, key, style));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, painted(item, name, style)]));
    }
    if (typeof value === "string" && value.startsWith("@") && key.toLowerCase().endsWith("color")) {
      return style.getPropertyValue("--" + value.slice(1)).trim();
    }
    return value;
  }

  function axis(own, font) {
    return Object.assign(
      {
        gridcolor: "@grid", linecolor: "@rule", zeroline: false, showline: false, fixedrange: true,
        automargin: true, tickfont: { size: 12, color: "@muted" }, ticks: "", ticklabelstandoff: 4,
      },
      own,
      { title: Object.assign({ font: { size: 12, color: "@muted", family: font } }, own.title) }
    );
  }

  function layout(spec, font, width) {
    const own = spec.layout;
    return Object.assign({ margin: { l: 56, r: 16, t: 8, b: 52 } }, own, {
      height: spec.height, width: width, autosize: width === undefined,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: font, size: 13, color: "@ink" },
      hoverlabel: { bgcolor: "@ink", bordercolor: "@ink", font: { family: font, color: "@paper", size: 12 } },
      legend: Object.assign({ bgcolor: "rgba(0,0,0,0)", font: { size: 12, color: "@ink" } }, own.legend,
        { title: Object.assign({ font: { size: 12, color: "@muted" } }, (own.legend || {}).title) }),
      xaxis: axis(own.xaxis, font), yaxis: axis(own.yaxis, font),
      dragmode: false, separators: ".,",
    });
  }

  function draw(printing) {
    const style = getComputedStyle(root);
    const font = style.getPropertyValue("--font").trim();
    for (const spec of specs) {
      const place = document.getElementById("chart-" + spec.name);
      const width = printing ? (place.closest(".pair") ? 330 : 680) : undefined;
      const look = painted(layout(spec, font, width), "", style);
      Plotly.react(place, painted(spec.data, "", style), look, { displayModeBar: false, responsive: !printing });
    }
  }

  function print(on) {
    root.classList.toggle("printing", on);
    draw(on);
  }

  draw(false);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(false));
  window.addEventListener("beforeprint", () => print(true));
  window.addEventListener("afterprint", () => print(false));
})();
