/* The state of the page lives in its address, after #, so that a link opens the same view and Back goes back:

     p parameter · q measure · v view · o order · m methods shown · f.<factor> levels shown · s condition looked at
     c the scorecard's condition · d the path's condition · sort.<table> column and direction · t place on the page

   A list is its parts, each encoded, with commas between. What is not in the address has its default. */
vc.state = (() => {
  const followers = [];

  function read() {
    const out = {}, text = location.hash.slice(1);
    if (!text.includes("=")) return text ? { t: decodeURIComponent(text) } : out;
    for (const part of text.split("&")) {
      const i = part.indexOf("=");
      if (i > 0) out[decodeURIComponent(part.slice(0, i))] = part.slice(i + 1);
    }
    return out;
  }
  const encode = (text) => encodeURIComponent(text).replace(/%3A/g, ":").replace(/%20/g, "+");
  const decode = (text) => {
    try { return decodeURIComponent(text.replace(/\+/g, "%20")); } catch { return text; }
  };

  /* one value, or `otherwise` where the address has none */
  function get(key, otherwise) {
    const value = read()[key];
    return value === undefined ? otherwise : decode(value);
  }
  /* a list, or null where the address has none */
  function list(key) {
    const value = read()[key];
    return value === undefined ? null : value.split(",").filter((part) => part).map(decode);
  }
  /* change some keys: a text, a list, or null to forget; `quietly` leaves no step for Back */
  function set(change, quietly) {
    const now = read();
    for (const [key, value] of Object.entries(change)) {
      if (value === null || value === undefined) delete now[key];
      else now[key] = Array.isArray(value) ? value.map(encode).join(",") : encode(value);
    }
    const text = Object.entries(now).map(([key, value]) => `${encode(key)}=${value}`).join("&");
    const before = location.hash;
    if (quietly) history.replaceState(null, "", `#${text}`);
    else history.pushState(null, "", `#${text}`);
    if (location.hash !== before) tell();
  }
  const tell = () => followers.forEach((follow) => follow());
  const follow = (run) => followers.push(run);
  addEventListener("popstate", tell);
  return { get, list, set, follow, tell };
})();
