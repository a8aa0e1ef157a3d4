// A part of the page: the element that Gradio gives it, and the values and events that go to and fro.

const NARROW_PIXELS = 640;

/** What a script is mounted on; `context` has Gradio's `element, props, trigger, watch`, `server` and `upload`. */
export function makePart({ element, props, trigger, watch, server, upload }) {
  const root = element.querySelector('.cs-part');

  /** On a narrow screen a part lies below everything that goes in, some do on any screen: show that something happens. */
  function bringIntoView(onAnyScreen = false) {
    if (!onAnyScreen && window.innerWidth > NARROW_PIXELS) return;
    const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
    requestAnimationFrame(() => {
      if (root.getBoundingClientRect().top > window.innerHeight * 0.6) root.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
    });
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

  return { element, root, props, trigger, server, upload, bringIntoView, followValue };
}

/** Load the script called `name` and mount it; where it does not come, say so in the part. */
export async function mountPart(name, context) {
  const { mount } = await import(`../${name}.js`);
  mount(makePart(context));
}
