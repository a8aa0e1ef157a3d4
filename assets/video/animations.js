// Animated pictures that are dropped into the clip's zone or chosen there. The player takes only video, so they go to
// the hidden upload beside it, whose handler turns them into a clip.

const ZONE = '#cs-clip';
const isPicture = (file) => file && file.type.startsWith('image/');

function sendPicture(file) {
  // Gradio puts the input of an upload button right before the button.
  let input = document.querySelector('#cs-animation');
  while (input && !input.matches('input[type=file]')) input = input.previousElementSibling;
  if (!input) return;
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
}

function takePicture(event, file) {
  if (!event.target.closest?.(ZONE) || !isPicture(file)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  event.target.dispatchEvent(new DragEvent('dragleave', { bubbles: true }));
  sendPicture(file);
}

/** Listen for pictures that are dropped into the clip's zone or chosen there. */
export function takeAnimations() {
  if (document.documentElement.dataset.csAnimations) return; // the page may draw the part again; the listeners stay
  document.documentElement.dataset.csAnimations = '1';
  document.addEventListener('dragover', (event) => {
    if (event.target.closest?.(ZONE)) event.preventDefault(); // or the browser would open what is dropped on the player
  }, true);
  document.addEventListener('drop', (event) => takePicture(event, event.dataTransfer?.files[0]), true);
  document.addEventListener('change', (event) => takePicture(event, event.target.files?.[0]), true);
  document.addEventListener('click', (event) => {
    const input = event.target.closest?.(ZONE)?.querySelector('input[type=file]');
    if (input && input.accept && !input.accept.includes('image/')) input.accept += ',image/gif,image/webp,image/png,image/apng';
  }, true);
}
