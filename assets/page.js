// Helpers that every part of the page uses. All text goes in as text nodes and attributes, never as markup.

const root = element.querySelector('.cs-part');

/** An element with attributes, listeners (`on…`) and children; strings become text nodes, null is left out. */
function make(tag, attributes = {}, ...children) {
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
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Call `show` with every value that arrives, the first included; values older than the one shown are dropped. */
function followValue(show) {
  let serial = -1;
  const update = () => {
    const current = props.value;
    if (!current || typeof current !== 'object') return;
    if (current.serial !== undefined) {
      if (current.serial < serial) return;
      serial = current.serial;
    }
    show(current);
  };
  watch('value', update);
  update();
}
