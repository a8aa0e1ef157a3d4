// Elements and texts. All text goes in as text nodes and attributes, never as markup.

/** An element with attributes, listeners (`on…`) and children; strings become text nodes, null is left out. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, setting] of Object.entries(attributes)) {
    if (setting === null || setting === undefined || setting === false) continue;
    if (typeof setting === 'function') node.addEventListener(name.slice(2), setting);
    else node.setAttribute(name, setting === true ? '' : String(setting));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Change a node's text only where it differs, so that nothing flickers and screen readers stay calm. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Hide a node, or show it again. Where a node that goes holds the focus, the first of `others` that can be seen takes
 * it: nowhere at all, a keyboard would begin anew at the page's top.
 */
export function hideKeepingFocus(node, isHidden, ...others) {
  const hadFocus = isHidden && node.contains(document.activeElement);
  node.hidden = isHidden;
  const next = hadFocus && others.find((other) => other.getClientRects().length && !other.disabled);
  if (!next) return;
  if (next.tabIndex < 0) next.tabIndex = -1; // what is no control takes the focus only where it was told that it may
  next.focus();
}

/** What counts in a sentence on what is being done: “3 of 16”, megabytes, words, and whatever stands behind its dots. */
export const COUNT = /(?<=…) .+$|,? \d[\d,.]* (?:of \d|MB).*$|, word \d.*$/;

/** Say in `node` what is being done. What counts in it is only seen: read aloud, it would never fall silent. */
export function showDoing(node, text, isBusy = true) {
  if (!text) { node.replaceChildren(); return; }
  const place = isBusy ? text.search(COUNT) : -1;
  const end = place < 0 ? text.length : place;
  if (node.childElementCount !== 2) node.replaceChildren(make('span'), make('span', { 'aria-hidden': 'true' }));
  setText(node.firstChild, text.slice(0, end));
  setText(node.lastChild, text.slice(end));
}

/** Say in `node` what a phase says: an error aloud, anything else by the class `calm`, and nothing by not being there. */
export function showMessage(node, phase, text, calm = 'cs-empty') {
  const isFailed = phase === 'failed';
  node.className = `cs-message ${isFailed ? 'cs-error' : calm}`;
  node.setAttribute('role', isFailed ? 'alert' : 'status');
  showDoing(node, text, phase === 'busy');
  node.hidden = !text;
}
